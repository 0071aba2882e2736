"""What the documents show is what the program does: commands parse, and console blocks are run and compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.cli.harness import run
from tests.fixtures import FOLDER, fixture_file
from tests.tools import require_ntfs_writer
from vhdtool.cli.main import vhdtool_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IN_ORDER = "tutorial-packages.md"
"""The page whose commands build on each other: each console block finds what those before it wrote."""
BLOCK = re.compile(r"^```(sh|console|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def sessions() -> list[tuple[str, str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = session.partition("\n")
                found.append((page.name, command, output))
    return found


def commands() -> list[tuple[str, str]]:
    text = re.compile(r"(?:^|\||- run: )\s*(vhdtool [^|>\n]*)")
    return [
        (page.name, command.strip())
        for page in PAGES
        for language in ("sh", "yaml")
        for block in blocks(page, language)
        for line in block.splitlines()
        for command in text.findall(line)
    ]


def as_pattern(output: str) -> re.Pattern[str]:
    """``...`` alone on a line stands for any lines, at the end of a line for the rest of it."""
    parts = []
    for line in output.splitlines():
        if line == "...":
            parts.append(r"(?:.*\n)*?")
        elif line.endswith("..."):
            parts.append(re.escape(line.removesuffix("...")) + ".*\n")
        else:
            parts.append(re.escape(line) + "\n")
    return re.compile("".join(parts) + r"\Z")


def give_files(folder: Path) -> None:
    """What the documents' commands are asked of."""
    for name in ("demo.vhdx", "server.vhdx"):
        (folder / name).write_bytes(fixture_file("demo.vhdx").read_bytes())
    (folder / "update.cab").write_bytes((FOLDER / "demo-update.cab").read_bytes())
    (folder / "test-root.pem").write_bytes((FOLDER / "test-root.pem").read_bytes())


def assert_shows(page: str, command: str, output: str) -> None:
    words = shlex.split(command.replace("\\", "\\\\"))
    assert words[0] == "vhdtool"
    result = run(*words[1:])
    shown = result.stderr + result.text
    assert as_pattern(output).match(shown), f"{page}: $ {command}\n{shown}"


@pytest.mark.parametrize(("page", "command", "output"), [one for one in sessions() if one[0] != IN_ORDER])
def test_console_blocks(page, command, output, tmp_path, monkeypatch):
    give_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_shows(page, command, output)


def test_the_tutorial_on_packages_in_its_order(tmp_path, monkeypatch):
    require_ntfs_writer()
    give_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = [one for one in sessions() if one[0] == IN_ORDER]
    assert len(found) > 10
    for one in found:
        assert_shows(*one)


def test_policies_in_the_documents_are_policies(tmp_path):
    found = [
        text
        for page in PAGES
        for text in re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    assert found
    for number, text in enumerate(found):
        policy = tmp_path / f"{number}.toml"
        policy.write_text(text)
        result = run("check", str(fixture_file("demo.vhdx")), "--policy", str(policy), "--fail-on", "never")
        assert result.code == 0, result.stderr


def test_commands_in_the_documents_are_commands():
    found = commands()
    assert len(found) > 10
    for page, text in found:
        words = shlex.split(text.replace("\\", "\\\\"), comments=True)[1:]
        command: click.Command = vhdtool_command
        context = click.Context(command, info_name="vhdtool")
        while isinstance(command, click.Group):
            below = command.get_command(context, words[0])
            assert below is not None, f"{page}: {text}"
            command, words = below, words[1:]
        command.make_context(command.name, list(words), parent=context)  # raises where an option is unknown
