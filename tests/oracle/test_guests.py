"""Guests made with public tools from real hives: every Start value and the version against other readers' answers.

Expected versions come from the hives' own driver databases as hivex reads them (the minimum over the packages that
bind on Hyper-V), or from the genuine files that the test puts into the guest, whose versions the cab's name tells.
"""

from __future__ import annotations

import functools
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from Registry import Registry, RegistryLog

import vhdtool
from tests.data_files import data_file
from tests.dirty_hives import dirt_vector, dirty_hive, marvin32, old_dirty_hive
from tests.guests import (
    HIVEX_PYTHON,
    TOOLS,
    HivexServices,
    build_guest,
    call,
    has_hivex,
    hivex_edit,
    hivex_services,
    software_hive,
)
from tests.tools import require_tool

pytestmark = [pytest.mark.oracle, pytest.mark.data]

ROOT = Path(__file__).resolve().parents[2]
WINDOWS_10 = "hives/fox-it__dissect.regf/SYSTEM.gz"
WINDOWS_7 = "hives/mkorman90__regipy/SYSTEM.xz"
WINDOWS_7_EARLIER = "hives/mkorman90__regipy/f315415-SYSTEM.xz"
WINDOWS_XP = "hives/log2timeline__dfwinreg/SYSTEM.xz"
MINIMAL = "hives/libguestfs__hivex/minimal"
CAB = "cab/marcinbojko__hvintegrationservices/{}-HyperVIntegrationServices-x64.cab"
CAB_VERSION = "6.3.9600.18398"  # KB3172614, named by the repository that has the cabs
INTEGRATION_NAMES = ("vmic", "vmbus", "storvsc", "storflt", "netvsc", "vpci")

SystemHive = Callable[[str], Path]


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    for tool in TOOLS:
        require_tool(tool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guests")


@pytest.fixture(scope="module")
def windows_10_software(folder: Path) -> Path:
    return software_hive(
        data_file(MINIMAL), folder / "SOFTWARE.10", product="Windows 10 Pro", version="6.3", build="19041",
        edition="Professional", revision=1110,
    )  # fmt: skip


@pytest.fixture(scope="module")
def windows_7_software(folder: Path) -> Path:
    return software_hive(
        data_file(MINIMAL), folder / "SOFTWARE.7", product="Windows 7 Professional", version="6.1", build="7601",
        edition="Professional",
    )  # fmt: skip


@pytest.fixture(scope="module")
def windows_10(folder: Path, windows_10_software: Path) -> Path:
    return build_guest(
        folder,
        system_hive=data_file(WINDOWS_10),
        software_hive=windows_10_software,
        options="subformat=dynamic,block_size=2M",
        name="windows-10",
    )


def services_of_python_registry(hive: Path) -> HivexServices:
    """The same as :func:`hivex_services`, by a second reader that shares no code with hivex."""
    registry = Registry.Registry(str(hive))
    current = registry.open("Select").value("Current").value()
    services: dict[str, tuple[int | None, int | None]] = {}
    for key in registry.open(f"ControlSet{current:03d}\\Services").subkeys():
        override = next((sub for sub in key.subkeys() if sub.name() == "StartOverride"), None)
        services[key.name()] = (_dword(key, "Start"), None if override is None else _dword(override, "0"))
    return HivexServices(current, services)


def _dword(key: Registry.RegistryKey, name: str) -> int | None:
    for value in key.values():
        if value.name().lower() == name.lower() and value.value_type() == Registry.RegDWord:
            return int(value.value())
    return None


def judge(hive: Path) -> HivexServices:
    return hivex_services(hive) if has_hivex() else services_of_python_registry(hive)


def command_line(*arguments: str | Path) -> dict[str, object]:
    words = [sys.executable, "-m", "vhdtool", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def check_services(image: Path, hive: Path) -> None:
    """Every service that the judge finds, with the judge's Start and StartOverride; none that it does not find."""
    expected = judge(hive)
    with vhdtool.open_image(image) as opened:
        (guest,) = opened.inspect_guests(all_services=True)
    assert guest.os.control_set == expected.current
    assert guest.all_services is not None
    found = {service.name: (service.start_value, service.start_override) for service in guest.all_services}
    with_start = {name: pair for name, pair in expected.services.items() if pair[0] is not None}
    assert {name: found.get(name, "absent") for name in with_start} == with_start
    assert found.keys() <= expected.services.keys()
    named = {service.name.lower(): service for service in (*guest.services, *guest.drivers)}
    for name, (start, override) in expected.services.items():
        if name.lower() in named:
            assert (named[name.lower()].start_value, named[name.lower()].start_override) == (start, override), name
    there = {name.lower() for name in expected.services if name.lower().startswith("vmic")}
    assert {service.name.lower() for service in guest.services if service.start is not None} == there


def test_two_judges_agree_on_the_real_hives() -> None:
    if not has_hivex():
        pytest.skip("the system's Python has no hivex")
    for name in (WINDOWS_10, WINDOWS_7, WINDOWS_7_EARLIER, WINDOWS_XP):
        assert hivex_services(data_file(name)) == services_of_python_registry(data_file(name))


@pytest.mark.parametrize(
    ("container", "options", "scheme"),
    [
        ("vhdx", "subformat=dynamic,block_size=1M", "gpt"),
        ("vhdx", "subformat=fixed", "mbr"),
        ("vhdx", "subformat=dynamic,block_size=32M", "mbr-extended"),
        ("vhd", "subformat=dynamic", "gpt"),
        ("vhd", "subformat=dynamic,force_size=off", "mbr"),
        ("vhd", "subformat=fixed", "none"),
        ("raw", "", "gpt"),
    ],
)
def test_services_in_every_container(
    folder: Path, windows_10_software: Path, container: str, options: str, scheme: str
) -> None:
    hive = data_file(WINDOWS_10)
    image = build_guest(
        folder, system_hive=hive, software_hive=windows_10_software, container=container, options=options,
        scheme=scheme, name=f"{container}-{scheme}",
    )  # fmt: skip
    try:
        check_services(image, hive)
    finally:
        image.unlink()


@pytest.mark.parametrize(
    ("name", "cluster_size"),
    [(WINDOWS_10, 512), (WINDOWS_10, 65536), (WINDOWS_7, 4096), (WINDOWS_7_EARLIER, 4096), (WINDOWS_XP, 4096)],
)
def test_services_of_every_hive(folder: Path, windows_7_software: Path, name: str, cluster_size: int) -> None:
    image = build_guest(
        folder,
        system_hive=data_file(name),
        software_hive=windows_7_software,
        cluster_size=cluster_size,
        name=f"hive-{cluster_size}",
    )
    try:
        check_services(image, data_file(name))
    finally:
        image.unlink()


def test_command_line_and_python_say_the_same(windows_10: Path) -> None:
    document = command_line("services", "list", windows_10, "--all-services", "--json")
    expected = judge(data_file(WINDOWS_10))
    rows = list(_rows(document))
    starts = {row["name"]: row["start_value"] for row in rows if row["start_value"] is not None}
    with_start = {name: start for name, (start, _) in expected.services.items() if start is not None}
    assert {name: starts.get(name) for name in with_start} == with_start


def _rows(node: object) -> Iterator[dict[str, object]]:
    """Every row of services in a document, wherever it stands."""
    if isinstance(node, dict):
        if "start_value" in node:
            yield node
        for child in node.values():
            yield from _rows(child)
    elif isinstance(node, list):
        for child in node:
            yield from _rows(child)


_DRIVER_VERSIONS = r"""
import hivex, json, struct, sys
hive = hivex.Hivex(sys.argv[1])
node = hive.root()
for part in ("DriverDatabase", "DriverPackages"):
    node = hive.node_get_child(node, part)
found = {}
for package in hive.node_children(node):
    raw = hive.value_value(hive.node_get_value(package, "Version"))[1]
    found[hive.node_name(package)] = list(reversed(struct.unpack_from("<4H", raw, 32)))
print(json.dumps(found))
"""


@functools.cache
def driver_packages(hive: Path) -> dict[str, tuple[int, ...]]:
    """Driver packages of a SYSTEM hive with their versions, as hivex reads them."""
    if not has_hivex():
        pytest.skip("the system's Python has no hivex")
    answer = json.loads(call(HIVEX_PYTHON, "-c", _DRIVER_VERSIONS, hive))
    return {name: tuple(version) for name, version in answer.items()}


def test_version_of_windows_10_is_the_minimum_of_its_driver_packages(windows_10: Path) -> None:
    packages = driver_packages(data_file(WINDOWS_10))
    newest = {name: version for name, version in packages.items() if name.startswith("wvmbus.inf_")}
    assert list(newest.values()) == [(10, 0, 19041, 1110)]
    lowest = min(version for name, version in packages.items() if name.startswith("wvmic"))
    with vhdtool.open_image(windows_10) as image:
        (guest,) = image.guests
    services = guest.integration_services
    assert services.version == ".".join(map(str, lowest)) == "10.0.19041.1"
    assert services.source == "driver-database"
    assert guest.os.version is not None
    assert guest.os.version.startswith("10.0.19041")
    assert guest.os.architecture == "amd64"
    assert command_line("version", windows_10, "--json")


@pytest.mark.parametrize(
    ("name", "cab", "version"), [(WINDOWS_7, "Windows6.x", "6.1"), (WINDOWS_7_EARLIER, "Windows6.2", "6.1")]
)
def test_version_from_genuine_files(folder: Path, windows_7_software: Path, name: str, cab: str, version: str) -> None:
    require_tool("cabextract")
    unpacked = folder / f"cab-{cab}"
    call("cabextract", "-q", "-d", unpacked, data_file(CAB.format(cab)))
    files = {
        f"Windows/System32/{place}": next(iter(sorted(unpacked.rglob(Path(place).name))))
        for place in ("icsvc.dll", "vmicres.dll", "drivers/vmbus.sys")
    }
    image = build_guest(
        folder, system_hive=data_file(name), software_hive=windows_7_software, extra_files=files, name=f"files-{cab}"
    )
    try:
        with vhdtool.open_image(image) as opened:
            (guest,) = opened.guests
    finally:
        image.unlink()
    assert guest.integration_services.version == CAB_VERSION
    assert guest.integration_services.source == "file-version"
    assert {evidence.version for evidence in guest.integration_services.evidence} == {CAB_VERSION}
    assert guest.os.version is not None
    assert guest.os.version.startswith(version)
    assert guest.os.architecture == "x86"


def test_windows_without_any_source_has_no_version(folder: Path, windows_7_software: Path) -> None:
    image = build_guest(
        folder, system_hive=data_file(WINDOWS_7), software_hive=windows_7_software, name="without-version"
    )
    with vhdtool.open_image(image) as opened:
        (guest,) = opened.guests
    assert (guest.integration_services.version, guest.integration_services.agreement) == (None, "none")


@pytest.fixture(scope="module")
def edited(folder: Path) -> Path:
    """The real hive after two changes that hivex made: the truth that the dirty guest's log holds."""
    if not has_hivex():
        pytest.skip("the system's Python has no hivex")
    after = folder / "SYSTEM.after"
    after.write_bytes(data_file(WINDOWS_10).read_bytes())
    services = "ControlSet001\\Services"
    hivex_edit(
        after,
        [(f"{services}\\vmickvpexchange", "Start", 4, 4), (f"{services}\\vmicvss", "Start", 4, 2)],
    )
    return after


def test_the_log_is_one_that_python_registry_applies(tmp_path: Path, edited: Path) -> None:
    """Our log writer for these tests is judged by a foreign reader, and its hash by a log that Windows wrote."""
    windows = data_file("hives/yarp/NewDirtyHive1/NewDirtyHive.LOG1").read_bytes()
    size, body_hash = struct.unpack_from("<I", windows, 516)[0], struct.unpack_from("<Q", windows, 536)[0]
    assert marvin32(windows[512 + 40 : 512 + size]) == body_hash
    primary, log = dirty_hive(data_file(WINDOWS_10).read_bytes(), edited.read_bytes())
    recovered = tmp_path / "SYSTEM"
    recovered.write_bytes(primary)
    with recovered.open("r+b") as stream:
        RegistryLog.RegistryLog(stream, io.BytesIO(log)).recover_hive()
    assert services_of_python_registry(recovered) == services_of_python_registry(edited)


def test_dirty_hive_is_recovered_and_said_to_be(folder: Path, windows_10_software: Path, edited: Path) -> None:
    primary, log = dirty_hive(data_file(WINDOWS_10).read_bytes(), edited.read_bytes())
    image = build_guest(
        folder, system_hive=primary, software_hive=windows_10_software, logs={"SYSTEM.LOG1": log}, name="dirty"
    )
    assert judge(edited).services["vmickvpexchange"][0] == 4
    check_services(image, edited)
    with vhdtool.open_image(image) as opened:
        (guest,) = opened.guests
    (system,) = [hive for hive in guest.hives if hive.path.upper().endswith("SYSTEM")]
    assert (system.state, system.logs) == ("recovered", ("SYSTEM.LOG1",))


def test_the_old_log_is_as_windows_writes_it() -> None:
    windows = data_file("hives/yarp/OldDirtyHive/OldDirtyHive.LOG1").read_bytes()
    hive = bytearray(data_file("hives/yarp/OldDirtyHive/OldDirtyHive").read_bytes())
    bitmap = windows[516 : 516 + struct.unpack_from("<I", windows, 40)[0] // 4096]
    sectors = [index for index in range(len(bitmap) * 8) if bitmap[index // 8] >> index % 8 & 1]
    first = len(windows) - len(sectors) * 512
    for number, sector in enumerate(sectors):
        place = first + number * 512
        hive[4096 + sector * 512 : 4096 + sector * 512 + 512] = windows[place : place + 512]
    made = dirt_vector(bytes(hive), sectors)
    assert made[: 4 + len(bitmap)] == windows[512 : 516 + len(bitmap)]
    assert (len(made), made[first - 512 :]) == (len(windows) - 512, windows[first:])  # between them Windows keeps noise


@pytest.mark.parametrize("log_name", ["SYSTEM.LOG", "SYSTEM.LOG1"])
def test_dirty_hive_of_windows_7(folder: Path, windows_7_software: Path, log_name: str) -> None:
    if not has_hivex():
        pytest.skip("the system's Python has no hivex")
    before = data_file(WINDOWS_7).read_bytes()
    after = folder / "SYSTEM.7"
    after.write_bytes(before)
    hivex_edit(after, [("ControlSet001\\Services\\storvsc", "Start", 4, 0)])
    assert judge(data_file(WINDOWS_7)).services["storvsc"][0] == 3
    primary, log = old_dirty_hive(before, after.read_bytes())
    image = build_guest(
        folder, system_hive=primary, software_hive=windows_7_software, logs={log_name: log}, name="dirty-7"
    )
    try:
        check_services(image, after)
        with vhdtool.open_image(image) as opened:
            (guest,) = opened.guests
    finally:
        image.unlink()
    (system,) = [hive for hive in guest.hives if hive.path.upper().endswith("SYSTEM")]
    assert (system.state, system.logs) == ("recovered", (log_name,))
    assert {driver.name: driver.start_value for driver in guest.drivers}["storvsc"] == 0


def test_dirty_hive_without_its_log_is_said_to_be_dirty(folder: Path, windows_10_software: Path) -> None:
    stale = bytearray(data_file(WINDOWS_10).read_bytes())
    primary_sequence, _ = struct.unpack_from("<II", stale, 4)
    struct.pack_into("<I", stale, 4, primary_sequence + 1)
    checksum = functools.reduce(lambda left, right: left ^ right, struct.unpack_from("<127I", stale))
    struct.pack_into("<I", stale, 508, checksum)
    image = build_guest(folder, system_hive=bytes(stale), software_hive=windows_10_software, name="unrecoverable")
    with vhdtool.open_image(image) as opened:
        (guest,) = opened.guests
    (system,) = [hive for hive in guest.hives if hive.path.upper().endswith("SYSTEM")]
    assert (system.state, system.logs) == ("dirty", ())
