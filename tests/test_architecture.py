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
PROCESS_STARTER = "vhdtool/fs/worker_process.py"  # the NTFS worker, and nothing else
NTFS_WORKER = "vhdtool/fs/ntfs3g_worker.py"  # a process of its own: os._exit is its only way out of a C callback
WRITERS = {  # the only modules of the library that make files on the host, none of them an image
    "vhdtool/report/host_files.py",
    "vhdtool/report/evidence.py",
    "vhdtool/package/cabinet_libmspack.py",  # a private temporary folder: libmspack takes and gives files by name
}
IMAGE_WRITER = "vhdtool/disk/host_store.py"  # the one door to image files
POSITIONED = "vhdtool/disk/positioned_io.py"  # what both of them write with
SPOOL_WRITER = "vhdtool/disk/overlay.py"  # an unnamed temporary file
WIRE = "vhdtool/fs/worker_wire.py"  # writes to a socket
LOCKS = "vhdtool/disk/write_lock.py"  # opens for writing to take locks, and never writes
CHANGING_CALLS = {
    "os.write",
    "os.pwrite",
    "os.pwritev",
    "os.writev",
    "os.truncate",
    "os.ftruncate",
    "os.posix_fallocate",
    "os.copy_file_range",
    "os.sendfile",
    "os.rename",
    "os.replace",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.unlink",
    "os.utime",
    "os.chmod",
    "os.chown",
    "os.setxattr",
}
OPENING_FLAGS = {"os.O_RDWR", "os.O_WRONLY", "os.O_CREAT", "os.O_TRUNC", "os.O_APPEND"}
COMMITS = "vhdtool.disk.commit_"  # modules of the steps that change an image
COMMITTERS = {"vhdtool/disk/committing.py"}  # the only one that chooses and takes them
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


def test_no_process_is_started_but_the_ntfs_worker():
    for name, text in sources("vhdtool").items():
        tree = ast.parse(text)
        allowed = {"subprocess"} if name == PROCESS_STARTER else set()
        assert not imports(tree) & PROCESS_MODULES - allowed, name
        assert not {call for call in calls(tree) if call.startswith(PROCESS_CALLS)}, name
    started = [call for call in calls(library()[PROCESS_STARTER]) if call.startswith("subprocess.")]
    assert started == ["subprocess.Popen"]


def test_image_files_are_changed_through_one_door():
    doors = {IMAGE_WRITER, SPOOL_WRITER, POSITIONED, WIRE}
    for name, tree in library().items():
        if name in doors:
            continue
        assert not calls(tree) & CHANGING_CALLS, name
        flags = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & OPENING_FLAGS
        assert not flags or name == LOCKS, name
    assert calls(library()[IMAGE_WRITER]) & CHANGING_CALLS, "the rule must have something to hold"
    writing = {name for name, tree in library().items() if "vhdtool.disk.positioned_io.write_part" in imports(tree)}
    assert writing == {IMAGE_WRITER, SPOOL_WRITER}


def test_steps_that_change_an_image_are_taken_in_one_place():
    for name, text in sources("vhdtool").items():
        taken = {one for one in imports(ast.parse(text)) if one.startswith(COMMITS)}
        own = name.startswith("vhdtool/disk/")
        assert not taken or own, name
    importers = {
        name
        for name, text in sources("vhdtool").items()
        if "vhdtool.disk.committing" in imports(ast.parse(text)) and "commit_changes" in text
    }
    assert importers <= {"vhdtool/transaction/transaction.py", "vhdtool/disk/merge.py", "vhdtool/report/disk_making.py"}


def test_library_does_not_print_read_the_environment_or_exit():
    for name, tree in library().items():
        allowed = {"os._exit"} if name == NTFS_WORKER else set()
        assert not calls(tree) & CLI_CALLS - allowed, name
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
