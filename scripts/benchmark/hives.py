"""The hives of the lifelike guest: a real SYSTEM hive, and a SOFTWARE hive as large as years of use make it."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmark.tools import BenchmarkError, real_file, say
from scripts.fixtures.hive_files import hive_bytes
from scripts.fixtures.server_2012_r2 import REG_BINARY, REG_SZ, Data, Tree, dword, expand, text
from tests.dirty_hives import dirty_hive

_SYSTEM = "hives/fox-it__dissect.regf/SYSTEM.gz"
SOFTWARE_SIZE = 60_000_000
LOG_SIZE = 1 << 20
_SERVICING = r"Microsoft\Windows\CurrentVersion\Component Based Servicing"
_TOKEN = "31bf3856ad364e35"  # noqa: S105  # the public key token of Windows components
_PAGES_PER_LOG = LOG_SIZE // 4096


def clean_hives(folder: Path) -> dict[str, Path]:
    """Write the real SYSTEM hive and a large SOFTWARE hive, and empty logs beside them."""
    system, software = folder / "SYSTEM", folder / "SOFTWARE"
    if not system.exists():
        with gzip.open(real_file(_SYSTEM), "rb") as packed:
            system.write_bytes(packed.read())
    if not software.exists():
        say("  writing a SOFTWARE hive of 60 MB")
        content = hive_bytes(_software(), "SOFTWARE")
        if len(content) < SOFTWARE_SIZE:
            raise BenchmarkError(f"the SOFTWARE hive has only {len(content)} bytes")
        software.write_bytes(content)
    return {"SYSTEM": system, "SOFTWARE": software}


def dirty_hives(folder: Path) -> dict[str, Path]:
    """Give the same hives as a power cut leaves them: both dirty, 1 MiB of log beside each.

    What the logs bring: one service disabled, and pages that did not change.
    """
    clean = clean_hives(folder)
    hives = {}
    for name, change in (("SYSTEM", _disable_a_service), ("SOFTWARE", bytes)):
        before = clean[name].read_bytes()
        primary, log = dirty_hive(before, change(before), pages_per_entry=24, padding=_PAGES_PER_LOG)
        for suffix, content in (("", primary), (".LOG1", log)):
            path = folder / f"dirty-{name}{suffix}"
            path.write_bytes(content)
            hives[name + suffix] = path
    return hives


def _disable_a_service(hive: bytes) -> bytes:
    """Set one ``Start`` of 3 to 4, wherever the first value of that name lies."""
    changed = bytearray(hive)
    needle = struct.pack("<2sHIIIHH", b"vk", 5, 0x8000_0004, 3, 4, 1, 0)[:20]
    place = changed.find(needle)
    while place >= 0 and changed[place + 20 : place + 25] != b"Start":
        place = changed.find(needle, place + 1)
    if place < 0:
        raise BenchmarkError("the SYSTEM hive has no service that is started by hand")
    changed[place + 8] = 4
    return bytes(changed)


def _software() -> Tree:
    """What a used Windows has most of: COM classes, file types, side-by-side components, servicing packages."""
    rng = random.Random(22)
    tree: Tree = {}
    for path, values in (*_identity(), *_classes(rng), *_side_by_side(rng), *_packages(rng), *_vendors(rng)):
        tree[path] = values
    return tree


def _identity() -> Iterator[tuple[str, dict[str, Data]]]:
    yield r"Microsoft\Windows NT\CurrentVersion", {
        "ProductName": text("Windows 10 Pro"), "EditionID": text("Professional"), "CurrentVersion": text("6.3"),
        "CurrentBuild": text("19041"), "CurrentBuildNumber": text("19041"), "UBR": dword(1110),
        "CurrentMajorVersionNumber": dword(10), "CurrentMinorVersionNumber": dword(0),
        "InstallationType": text("Client"), "SystemRoot": text(r"C:\Windows"), "ReleaseId": text("2009"),
    }  # fmt: skip
    yield r"Microsoft\Windows\CurrentVersion\Setup\State", {"ImageState": text("IMAGE_STATE_COMPLETE")}
    yield r"Microsoft\Virtual Machine\Guest", {}


def _classes(rng: random.Random) -> Iterator[tuple[str, dict[str, Data]]]:
    for index in range(9000):
        key = rf"Classes\CLSID\{_guid(rng)}"
        name = f"Component {_word(rng)} {_word(rng)}"
        yield key, {"": text(name), "AppID": text(_guid(rng))}
        yield rf"{key}\InprocServer32", {
            "": expand(rf"%SystemRoot%\System32\{_word(rng)}.dll"), "ThreadingModel": text("Both"),
        }  # fmt: skip
        if index % 3 == 0:
            yield rf"{key}\ProgID", {"": text(f"{_word(rng)}.{_word(rng)}.1")}
            yield rf"{key}\VersionIndependentProgID", {"": text(f"{_word(rng)}.{_word(rng)}")}
    for _ in range(24000):
        key = rf"Classes\Interface\{_guid(rng)}"
        yield key, {"": text(f"I{_word(rng)}{_word(rng)}")}
        yield rf"{key}\ProxyStubClsid32", {"": text(_guid(rng))}
        yield rf"{key}\TypeLib", {"": text(_guid(rng)), "Version": text("1.0")}
    for index in range(6000):
        yield rf"Classes\{_word(rng)}.{_word(rng)}.{index}\shell\open\command", {
            "": expand(rf'"%ProgramFiles%\{_word(rng)}\{_word(rng)}.exe" "%1"'), "DelegateExecute": text(_guid(rng)),
        }  # fmt: skip


def _side_by_side(rng: random.Random) -> Iterator[tuple[str, dict[str, Data]]]:
    for index in range(26000):
        component = f"amd64_{_word(rng)}-{_word(rng)}-{_word(rng)}_{_TOKEN}_none_{index:016x}"
        key = rf"Microsoft\Windows\CurrentVersion\SideBySide\Winners\{component}"
        yield key, {"": text("10.0")}
        yield rf"{key}\10.0", {"": text("10.0.19041.1110"), "10.0.19041.1110": Data(REG_BINARY, b"\1")}


def _packages(rng: random.Random) -> Iterator[tuple[str, dict[str, Data]]]:
    updates = [f"Package_{n}_for_KB50{n % 97:05d}~{_TOKEN}~amd64~~19041.1110.1.{n % 13}" for n in range(1800)]
    words = ["HyperV-Guest", *(f"{_word(rng).capitalize()}-{_word(rng)}" for _ in range(1400))]
    parts = [f"Microsoft-Windows-{word}-Package~{_TOKEN}~amd64~~10.0.19041.1" for word in words]
    for package in (*updates, *parts):
        key = rf"{_SERVICING}\Packages\{package}"
        yield key, {
            "CurrentState": dword(112), "SelfUpdate": dword(0), "Visibility": dword(2), "Trusted": dword(1),
            "InstallName": text(f"{package}.mum"), "InstallClient": text("WindowsUpdateAgent"),
            "InstallLocation": text(rf"\\?\C:\Windows\SoftwareDistribution\Download\{rng.getrandbits(128):032x}"),
            "InstallTimeHigh": dword(rng.getrandbits(32)), "InstallTimeLow": dword(rng.getrandbits(32)),
        }  # fmt: skip
        yield rf"{key}\Owners", {package: dword(0x20070)}
    for index in range(5000):
        key = rf"{_SERVICING}\ComponentDetect\amd64_{_word(rng)}_{_TOKEN}_10.0.19041.{index}_none"
        yield key, {f"{_word(rng)}~{_TOKEN}~amd64~~10.0.19041.1.{_word(rng)}": dword(4)}


def _vendors(rng: random.Random) -> Iterator[tuple[str, dict[str, Data]]]:
    for _ in range(400):
        vendor = _word(rng).capitalize()
        for index in range(20):
            yield (
                rf"{vendor}\{_word(rng)}\{index}",
                {
                    f"{_word(rng)}{number}": Data(REG_SZ, rng.randbytes(rng.randint(10, 120)).hex())
                    for number in range(6)
                },
            )


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghilmnoprstuvw") for _ in range(rng.randint(4, 12)))


def _guid(rng: random.Random) -> str:
    bits = f"{rng.getrandbits(128):032X}"
    return f"{{{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}}}"
