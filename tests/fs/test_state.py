from __future__ import annotations

import struct

import pytest

from tests.data_files import data_file
from tests.fs.ntfs_surgery import closed
from tests.fs.test_ntfs import VOLUME, data_attribute, record_at
from tests.volume.memory import MemoryDevice
from vhdtool.disk.device import FileDevice
from vhdtool.errors import NotFoundError
from vhdtool.fs.base import FileStat
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.state import RESTART_AREA, RESTART_PAGE, hiberfil_state, is_hibernated, log_state, read_state
from vhdtool.volume.partitions import Volume

PLAIN = Volume(0, 0, len(VOLUME), "none", "", None, "data", filesystem="ntfs")


def log_at(volume: bytes) -> int:
    extents = NtfsFilesystem(MemoryDevice(volume)).open("/$LogFile").extents()
    return extents[0].volume_offset


def restart(version: tuple[int, int], flags: int, clients: int = 0, lsn: int = 100) -> bytes:
    """A restart page, closed by its fixups."""
    page = b"RSTR" + struct.pack("<HHQIIHhh", 30, 9, 0, 4096, 4096, 48, version[1], version[0]) + b"\x07\x00"
    page = page.ljust(48, b"\0") + struct.pack("<QHHHH", lsn, 1, 0xFFFF, clients, flags)
    return closed(bytearray(page.ljust(4096, b"\0")))


def torn(page: bytes) -> bytes:
    """The page, of which one sector was not written."""
    return page[:1536] + bytes(512) + page[2048:]


def with_log(first: bytes, second: bytes = b"") -> NtfsFilesystem:
    volume = bytearray(VOLUME)
    at = log_at(VOLUME)
    volume[at : at + len(first)] = first
    volume[at + 4096 : at + 4096 + len(second)] = second
    return NtfsFilesystem(MemoryDevice(volume))


def test_layouts() -> None:
    assert (RESTART_PAGE.sizeof(), RESTART_AREA.sizeof()) == (30, 16)


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (b"", b"", "empty"),
        (restart((1, 1), 2), b"", "clean"),
        (restart((1, 1), 0, 0xFFFF), b"", "clean"),
        (restart((1, 1), 0), b"", "unclean"),
        (restart((1, 1), 2, lsn=5), restart((1, 1), 0, lsn=9), "unclean"),
        (restart((1, 1), 0, lsn=5), restart((1, 1), 2, lsn=9), "clean"),
        (restart((2, 0), 2), b"", "2.0"),
        (restart((0, 0), 2), b"", "damaged"),
        (b"garbage" * 100, b"", "damaged"),
        (torn(restart((1, 1), 2)), b"", "damaged"),
        (torn(restart((1, 1), 2, lsn=9)), restart((1, 1), 0, lsn=5), "damaged"),
        (restart((1, 1), 2, lsn=5), torn(restart((1, 1), 0, lsn=9)), "damaged"),
        (b"RSTR" + b"\xff" * 60, b"", "damaged"),
    ],
)
def test_states_of_the_log(first: bytes, second: bytes, state: str) -> None:
    assert log_state(with_log(first, second)) == state


def test_dirty() -> None:
    device = MemoryDevice(VOLUME)
    state = read_state(device, PLAIN, NtfsFilesystem(device))
    assert (state.dirty, state.hibernated, state.encrypted, state.log) == (False, False, False, "empty")
    assert read_state(device, PLAIN, with_log(restart((1, 1), 0))).dirty is True
    assert read_state(device, PLAIN, with_log(restart((2, 0), 0))).dirty is None


def test_the_dirty_bit() -> None:
    fs = NtfsFilesystem(MemoryDevice(VOLUME))
    at, _ = record_at(fs, "/$Volume")
    volume = bytearray(VOLUME)
    place = at + struct.unpack_from("<H", VOLUME, at + 20)[0]
    while struct.unpack_from("<I", volume, place)[0] != 0x70:
        place += struct.unpack_from("<I", volume, place + 4)[0]
    value = place + struct.unpack_from("<H", volume, place + 20)[0]
    volume[value + 10] |= 1
    device = MemoryDevice(volume)
    assert read_state(device, PLAIN, NtfsFilesystem(device)).dirty is True
    assert data_attribute  # the layout walk above is the same


def test_what_is_not_ntfs_says_nothing() -> None:
    locked = Volume(0, 0, 512, "none", "", None, "data", encryption="bitlocker")
    state = read_state(MemoryDevice(bytes(512)), locked, None)
    assert (state.dirty, state.hibernated, state.encrypted) == (None, None, True)


class Hiberfil:
    """A file system with a hiberfil.sys and nothing else."""

    kind = "ntfs"
    label = None

    def __init__(self, content: bytes | None) -> None:
        self.path, self.content = "/hiberfil.sys", content

    def stat(self, path: str) -> FileStat | None:
        return None

    def list(self, path: str) -> list[FileStat]:
        return []

    def open(self, path: str) -> Hiberfil:
        if self.content is None or path != "/hiberfil.sys":
            raise NotFoundError("no-such-file", "none")
        return self

    @property
    def size(self) -> int:
        return len(self.content or b"")

    def read_at(self, offset: int, length: int) -> bytes:
        return (self.content or b"")[offset : offset + length]

    def extents(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, False),
        (b"hibr".ljust(8192, b"\0"), True),
        (b"HIBR".ljust(8192, b"\0"), True),
        (b"wake".ljust(8192, b"\0"), False),
        (b"RSTR".ljust(8192, b"\0"), False),
        (bytes(8192), False),
        (b"wake", True),
    ],
)
def test_hibernation(content: bytes | None, expected: bool) -> None:
    assert is_hibernated(Hiberfil(content)) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "absent"),
        (b"hibr".ljust(8192, b"\0"), "live"),
        (b"HIBR".ljust(8192, b"\0"), "live"),
        (b"wake".ljust(8192, b"\0"), "resumed"),
        (b"RSTR".ljust(8192, b"\0"), "resuming"),
        (bytes(8192), "unused"),
        (b"hibr", "short"),
    ],
)
def test_what_hiberfil_says(content: bytes | None, expected: str) -> None:
    assert hiberfil_state(Hiberfil(content)) == expected


def test_a_volume_that_windows_dismounted() -> None:
    device = FileDevice(data_file("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz"))
    state = read_state(device, PLAIN, NtfsFilesystem(device))
    assert (state.dirty, state.log) == (False, "clean")
