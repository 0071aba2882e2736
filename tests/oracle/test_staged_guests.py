"""Guests of real hives in every state that takes a stage: staged by the command line, judged by foreign programs alone.

The files and their security descriptors: ntfscat, icat, fls, ntfssecaudit. The service: hivex. After ``unstage`` the
hives hold what they held, and the directory tree is as it was, by hivexml and fls.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import dissect.ntfs
import pytest

from tests.cli.harness import run as vhdtool
from tests.data_files import data_file
from tests.guests import HIVEX_PYTHON, TOOLS, build_guest, call, has_hivex, hivex_edit, software_hive
from tests.oracle.ntfs_steps import descriptors
from tests.oracle.test_changed_guests import JUDGES, judged_sound, stored, windows_volume
from tests.package.package_texts import MICROSOFT
from tests.staging.packages import parents, write_package, write_root
from tests.tools import require_ntfs_writer, require_tool, run

pytestmark = [pytest.mark.oracle, pytest.mark.data]

MINIMAL = "hives/libguestfs__hivex/minimal"
PACKAGES = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
STATE = r"Microsoft\Windows\CurrentVersion\Setup\State"
FOUNDATION = f"Microsoft-Windows-Foundation-Package~{MICROSOFT}~amd64~~"
GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.x-HyperVIntegrationServices-x64.cab"
HIVES = {
    "Windows 7": ("hives/mkorman90__regipy/SYSTEM.xz", "6.1", "7601", "6.1.7601.17514"),
    "Windows 10": ("hives/fox-it__dissect.regf/SYSTEM.gz", "6.3", "19041", "10.0.19041.1"),
}
STATES = {
    "complete": ("IMAGE_STATE_COMPLETE", ["service"]),
    "generalized": ("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE", ["setupcomplete", "service"]),
    "audit": ("IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT", ["service"]),
}
SCRIPT = "Windows/Setup/Scripts/SetupComplete.cmd"
OWN = b"@echo off\r\necho mine\r\n"
SYSTEM_SID, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
STANDARD_INFORMATION = 0x10
ENVIRONMENT = r"ControlSet001\Control\Session Manager\Environment"

_HIVEX_SERVICE = r"""
import hivex, json, sys
hive = hivex.Hivex(sys.argv[1])
node = hive.root()
for part in ("ControlSet001", "Services", sys.argv[2]):
    node = None if node is None else hive.node_get_child(node, part)
values = {} if node is None else {
    hive.value_key(one): [hive.value_type(one)[0], hive.value_value(one)[1].hex()] for one in hive.node_values(node)
}
print(json.dumps(values))
"""


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    for tool in (*TOOLS, *JUDGES, "ntfssecaudit", "hivexml"):
        require_tool(tool)
    if not has_hivex():
        pytest.skip("python3-hivex is not installed")
    require_ntfs_writer()


def guest(folder: Path, windows: str, state: str) -> Path:
    system, version, build, servicing = HIVES[windows]
    software = software_hive(
        data_file(MINIMAL), folder / "SOFTWARE", product=windows, version=version, build=build, edition="Professional"
    )
    hivex_edit(
        software,
        [
            (STATE, "ImageState", 1, STATES[state][0]),
            (rf"{PACKAGES}\{FOUNDATION}{servicing}", "CurrentState", 4, 0x70),
        ],
    )
    hive = Path(shutil.copyfile(data_file(system), folder / "SYSTEM"))  # that of Windows 7 is of a 32-bit one
    hivex_edit(hive, [(ENVIRONMENT, "PROCESSOR_ARCHITECTURE", 1, "AMD64")])
    files: dict[str, Path | bytes] = {"Windows/Setup/here": b"x"}
    if state == "generalized":
        files[SCRIPT] = OWN
    return build_guest(folder, system_hive=hive, software_hive=software, extra_files=files, container="vhdx")


def cabinet(folder: Path, windows: str) -> tuple[Path, list[str]]:
    """A package that applies, and the options that trust it: the genuine one for Windows 7, a generic one for 10."""
    if windows == "Windows 7":
        return data_file(GENUINE), []
    parent = parents(("Microsoft-Windows-Foundation-Package", "10.0.19041.1"), rules='buildCompare="EQ"')
    cab = write_package(folder / "generic.cab", "10.0.19041.2", name="Package_for_KB1", parent=parent, infs=("a.inf",))
    return cab, ["--trust-root", str(write_root(folder))]


def done(*words: object) -> Any:
    result = vhdtool(*map(str, words), "--json")
    assert result.code == 0, result.stderr
    return result.json


def listed(volume: Path) -> set[str]:
    """Every path of the volume, by fls."""
    lines = run("fls", "-u", "-r", "-p", str(volume)).stdout.decode().splitlines()
    return {line.split(":\t")[1] for line in lines if "$OrphanFiles" not in line}


def hives(volume: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """Both hives as files, each with the digest of what hivexml says of it, its times left out."""
    found = {}
    for name in ("SYSTEM", "SOFTWARE"):
        path = folder / f"{name}.judged"
        path.write_bytes(stored(volume, f"/Windows/System32/config/{name}"))
        told = re.sub(rb"<mtime>[^<]*</mtime>", b"", run("hivexml", str(path)).stdout)
        found[name] = path, hashlib.sha256(told).hexdigest()
    return found


def descriptor(volume: Path, path: str) -> tuple[str, str, int, list[tuple[int, int, int, str]]]:
    """Owner, group, control and access entries (type, flags, mask, SID) of what dissect finds in $Secure (MS-DTYP)."""
    with volume.open("rb") as file:
        opened = dissect.ntfs.NTFS(file)
        record = opened.mft.get(path)
        number = record.attributes[STANDARD_INFORMATION][0].attribute.security_id
        data = descriptors(opened.mft.get(9).open("$SDS").read())[number]
    control, owner, group, _, dacl = struct.unpack_from("<2xHIIII", data)
    entries = []
    place = dacl + 8
    for _ in range(struct.unpack_from("<H", data, dacl + 4)[0]):
        kind, flags, size, mask = struct.unpack_from("<BBHI", data, place)
        entries.append((kind, flags, mask, sid(data, place + 8)))
        place += size
    return sid(data, owner), sid(data, group), control, entries


def sid(data: bytes, place: int) -> str:
    parts = struct.unpack_from(f"<{data[place + 1]}I", data, place + 8)
    return f"S-1-{int.from_bytes(data[place + 2 : place + 8], 'big')}-" + "-".join(map(str, parts))


def assert_restricted(volume: Path, path: str, *, is_directory: bool) -> None:
    """SYSTEM and administrators may do everything, nobody else anything, and nothing comes from above."""
    owner, group, control, entries = descriptor(volume, path)
    flags = 0x03 if is_directory else 0  # for what is made in it, too
    assert (owner, group) == (ADMINISTRATORS, SYSTEM_SID), path
    assert control & 0x1004 == 0x1004, "a list that is there, and protected"
    assert entries == [(0, flags, 0x1F01FF, SYSTEM_SID), (0, flags, 0x1F01FF, ADMINISTRATORS)], path
    told = run("ntfssecaudit", "-v", str(volume), path).stdout.decode(errors="replace")
    assert f"Windows owner {ADMINISTRATORS}" in told
    assert f"Windows group {SYSTEM_SID}" in told
    assert "mode 0700" in told


@pytest.mark.parametrize("windows", HIVES)
@pytest.mark.parametrize("state", STATES)
def test_what_is_staged_is_read_by_all_and_taken_out_again(tmp_path, windows, state):
    image = guest(tmp_path, windows, state)
    cab, trust = cabinet(tmp_path, windows)
    volume = windows_volume(image)
    before, known = listed(volume), {name: digest for name, (_, digest) in hives(volume, tmp_path).items()}

    document = done("stage", image, "--cab", cab, *trust, "--in-place")
    assert document["changed"]
    assert document["ways"] == STATES[state][1]
    volume = windows_volume(image)
    judged_sound(volume)
    folder = f"Windows/Setup/vhdtool/{document['id']}"
    added = {row["path"].strip("/") for row in document["files"]}
    assert listed(volume) - before == added - before
    (name,) = (path for path in added if path.endswith(".cab"))
    assert stored(volume, f"/{name}") == cab.read_bytes()
    for row in document["files"]:
        if row["action"] == "put":
            assert hashlib.sha256(stored(volume, row["path"])).hexdigest() == row["sha256"]
    for path in sorted(path for path in added if path.startswith("Windows/Setup/vhdtool")):
        assert_restricted(volume, f"/{path}", is_directory=path in {folder, "Windows/Setup/vhdtool"})
    if state == "generalized":
        assert OWN in stored(volume, f"/{SCRIPT}")
    hive = hives(volume, tmp_path)["SYSTEM"][0]
    values = json.loads(call(HIVEX_PYTHON, "-c", _HIVEX_SERVICE, hive, f"vhdtool-{document['id']}"))
    assert values["Type"] == [4, "10000000"]
    assert values["Start"] == [4, "02000000"]
    assert values["ErrorControl"] == [4, "00000000"]
    assert values["ObjectName"] == [1, "LocalSystem\0".encode("utf-16-le").hex()]
    assert values["ImagePath"] == [2, f"{document['guest_command']}\0".encode("utf-16-le").hex()]

    assert not done("stage", image, "--cab", cab, *trust, "--in-place")["changed"]
    done("unstage", image, document["id"], "--in-place")
    volume = windows_volume(image)
    judged_sound(volume)
    assert listed(volume) == before
    assert {name: digest for name, (_, digest) in hives(volume, tmp_path).items()} == known
    if state == "generalized":
        assert stored(volume, f"/{SCRIPT}") == OWN
