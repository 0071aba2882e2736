"""Rules of the house that no linter knows (docs/design.md sections 2 and 4)."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

import vhdtool

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 600
PROCESS_MODULES = {"subprocess", "multiprocessing", "pty", "concurrent.futures"}
PROCESS_CALLS = ("os.system", "os.popen", "os.exec", "os.spawn", "os.posix_spawn", "os.fork")
CLI_CALLS = {"print", "sys.exit", "exit", "quit", "os._exit", "os.getenv", "input", "breakpoint"}
WRITERS = {  # the only modules of the library that make files on the host
    "vhdtool/report/host_files.py",
    "vhdtool/report/evidence.py",
    "vhdtool/disk/convert.py",
    "vhdtool/disk/new_file.py",
}
NO_SUBJECT = {"utils", "util", "helpers", "helper", "common", "misc"}


@functools.cache
def sources(folder: str) -> dict[str, str]:
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")
    }


@functools.cache
def library() -> dict[str, ast.AST]:
    """All but the command line, as syntax trees."""
    return {
        name: ast.parse(text)
        for name, text in sources("vhdtool").items()
        if not name.startswith("vhdtool/cli/") and name != "vhdtool/__main__.py"
    }


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found | {one.partition(".")[0] for one in found}


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_no_process_is_started():
    for name, text in sources("vhdtool").items():
        tree = ast.parse(text)
        assert not imports(tree) & PROCESS_MODULES, name
        assert not {call for call in calls(tree) if call.startswith(PROCESS_CALLS)}, name


def test_library_does_not_print_read_the_environment_or_exit():
    for name, tree in library().items():
        assert not calls(tree) & CLI_CALLS, name
        words = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
        assert not words & {"os.environ", "environ", "SystemExit"}, name


def test_library_writes_files_of_the_host_in_few_places():
    found = {name for name, tree in library().items() if any(opens_for_writing(node) for node in ast.walk(tree))}
    assert found <= WRITERS


def opens_for_writing(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in {"open", "fdopen"}:
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(set(mode) <= set("rwxabt+") and set(mode) & set("wxa+") for mode in modes)


def test_no_file_is_long():
    everything = sources("vhdtool") | sources("tests") | sources("scripts")
    assert not {name for name, text in everything.items() if len(text.splitlines()) > LONGEST_FILE}


def test_every_module_has_a_subject():
    everything = sources("vhdtool") | sources("tests") | sources("scripts")
    assert not {name for name in everything if NO_SUBJECT & {*Path(name).parts[:-1], Path(name).stem}}


def test_reference_pages_are_current():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.make_reference", "--check"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode() + "run scripts/docs"


def test_version_is_told_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == vhdtool.__version__
