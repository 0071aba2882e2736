"""Doing it twice is doing it once: the second time ends 0, says so, makes no file, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in
from tests.cli.harness import run
from tests.tools import require_ntfs_writer

KEY = r"HKLM\SOFTWARE\Contoso"
COMMANDS = {
    "services set": ["services", "set", "IMAGE", "vmickvpexchange=auto", "vmicvss=disabled"],
    "services set delayed": ["services", "set", "IMAGE", "vmicvss=delayed"],
    "services set, triggers": ["services", "set", "IMAGE", "vmicvss=manual", "--restore-triggers"],
    "boot-ready": ["boot-ready", "IMAGE", "--fix"],
    "reg add, key": ["reg", "add", "IMAGE", KEY],
    "reg add, value": ["reg", "add", "IMAGE", KEY, "/v", "A", "/d", "1"],
    "reg delete, value": ["reg", "delete", "IMAGE", r"HKLM\SYSTEM\Select", "/v", "Failed"],
    "reg delete, key": ["reg", "delete", "IMAGE", r"HKLM\SYSTEM\CurrentControlSet\Services\W32Time"],
    "reg import": ["reg", "import", "IMAGE", "FILE.reg"],
    "put": ["put", "IMAGE", "FILE.reg", "/Windows/"],
    "mkdir": ["mkdir", "IMAGE", "/Tools/Deep", "--parents"],
    "rm": ["rm", "IMAGE", "/Users", "--recursive"],
}
NEEDS_WRITER = {"put", "mkdir", "rm"}
REG_FILE = """REGEDIT4

[HKEY_LOCAL_MACHINE\\SOFTWARE\\Contoso\\New]
"B"=dword:1
[-HKEY_LOCAL_MACHINE\\SOFTWARE\\X]
"""


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fixture", ["windows-guest.vhdx", "windows-guest.vhd", "demo.vhdx"])
def test_second_time_writes_nothing(name, fixture, tmp_path):
    if name in NEEDS_WRITER:
        require_ntfs_writer()
    image = image_in(tmp_path, fixture)
    file = tmp_path / "FILE.reg"
    file.write_text(REG_FILE)
    words = [{"IMAGE": str(image), "FILE.reg": str(file)}.get(word, word) for word in COMMANDS[name]]
    first = changed(*words, "--in-place", "--no-children")
    if (name, fixture) in {("boot-ready", "windows-guest.vhdx"), ("boot-ready", "windows-guest.vhd")}:
        assert not first["changed"], "these start as they are"
    elif name != "services set, triggers":  # they have their triggers
        assert first["changed"]
    before = digests(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    new = Path(tmp_path / f"new{image.suffix}")
    for target in (["--in-place", "--no-children"], ["--child", str(new)], ["--output", str(new)]):
        again = changed(*words, *target)
        assert (again["changed"], again["would_change"], again["receipt"]) == (False, False, None)
        assert digests(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    if first["changed"]:  # a commit leaves the file at rest
        assert run("recover", str(image), "--json").json["changed"] is False
        assert digests(tmp_path) == before
