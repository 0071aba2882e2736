from __future__ import annotations

import subprocess
import sys

import click
import pytest

import vhdtool
from tests.cli.harness import run
from vhdtool.cli.main import COMMANDS, vhdtool_command
from vhdtool.errors import RefusedError


def every_command(command: click.Command = vhdtool_command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += every_command(below, (*path, name))
    return found


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_help_of_every_command_has_an_example_and_fits_80_columns(path):
    result = run(*path, "--help")
    assert result.code == 0
    assert "Example" in result.text
    assert "  vhdtool " in result.text
    assert max(len(line) for line in result.text.splitlines()) <= 80
    assert "\\b" not in result.text


def test_commands_are_those_of_the_design():
    reading = ["inspect", "version", "advise", "services", "reg", "ls", "cat", "extract"]
    changing = ["put", "mkdir", "rm", "boot-ready", "diff", "crosscheck", "check"]
    packages = ["cab", "stage", "apply", "outcome", "unstage"]
    assert list(COMMANDS) == [*reading, *changing, *packages, "disk", "recover", "doctor", "explain", "schema"]


def test_version_option():
    assert run("--version").text == f"vhdtool {vhdtool.__version__}\n"


def test_without_a_command_help_goes_to_stderr_and_ends_2():
    result = run()
    assert (result.code, result.stdout) == (2, b"")
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("arguments", [("nonsense",), ("inspect",), ("inspect", "--nonsense"), ("ls", "a", "b", "c")])
def test_wrong_usage_ends_2_with_one_message(arguments):
    result = run(*arguments)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith("vhdtool: error[usage]: ")
    assert "--help" in result.stderr


def failing_with(error: BaseException):
    @click.command()
    def fails() -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RefusedError("encrypted", "no", path="x", offset=512, hint="do this"), 4, "error[encrypted]: x: no"),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("oh"), 70, "error[internal-fault]: a fault of vhdtool itself: ZeroDivisionError: oh"),
        (MemoryError(), 70, "MemoryError"),
        (RecursionError("deep"), 70, "RecursionError: deep"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_every_end_has_its_exit_code_and_no_traceback(monkeypatch, error, code, message):
    monkeypatch.setattr("vhdtool.cli.version.version", failing_with(error))
    result = run("version")
    assert result.code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert bool(message) == bool(result.stderr)


def test_debug_variable_shows_the_traceback(monkeypatch):
    monkeypatch.setattr("vhdtool.cli.version.version", failing_with(ZeroDivisionError("oh")))
    assert "Traceback" in run("version", environment={"VHDTOOL_DEBUG": "1"}).stderr


def test_hint_has_its_own_line(monkeypatch):
    error = RefusedError("encrypted", "no", hint="do this", expected="a", found="b\x1b[31m", offset=16)
    monkeypatch.setattr("vhdtool.cli.version.version", failing_with(error))
    assert run("version").stderr == (
        "vhdtool: error[encrypted]: no, expected a, found b\\x1b[31m (at offset 0x10)\n  hint: do this\n"
    )


def test_help_imports_no_reader():
    code = (
        "import sys; sys.argv = ['vhdtool', '--help']\n"
        "from vhdtool.cli.main import main\n"
        "main(['--help'])\n"
        "heavy = {'dissect', 'rich', 'msgspec', 'construct', 'pefile', 'Registry', 'pyvhdi', 'vhdtool.image'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)).__repr__() if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
