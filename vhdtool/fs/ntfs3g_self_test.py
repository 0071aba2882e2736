"""Is a libntfs-3g that nobody has tested to be trusted: it writes into a small volume, our reader judges."""

from __future__ import annotations

import lzma
from importlib import resources
from typing import TYPE_CHECKING, Final

from vhdtool.bytesource import BytesSource
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl

if TYPE_CHECKING:
    from vhdtool.fs.ntfs3g_session import NtfsSession

VOLUME: Final = "self_test.ntfs.xz"
"""A volume of 2 MiB that mkntfs made (``scripts/fixtures/self_test_volume.py``)."""
FOLDER: Final = "/Größe"
SMALL: Final = b"resident"
LARGE: Final = bytes(range(256)) * 400  # 100 KiB: has clusters


class MemoryVolume:
    """A volume in memory."""

    logical_sector_size = 512

    def __init__(self, content: bytes) -> None:
        self._content = bytearray(content)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._content)

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`vhdtool.disk.device.BlockDevice.read_at`."""
        return bytes(self._content[offset : offset + length])

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`vhdtool.disk.device.BlockDevice.read_into`."""
        data = self._content[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """As :meth:`vhdtool.disk.device.WritableDevice.write_at`."""
        view = memoryview(data).cast("B")
        if offset < 0 or offset + len(view) > len(self._content):
            raise ValueError("the range lies outside the volume")
        self._content[offset : offset + len(view)] = view


def load_volume() -> MemoryVolume:
    """The volume, as it comes with the package."""
    packed = resources.files("vhdtool.fs").joinpath(VOLUME).read_bytes()
    return MemoryVolume(lzma.decompress(packed))


def run_self_test(session: NtfsSession) -> str | None:
    """Make, replace, lengthen and remove files through ``session``; return what came out wrong, ``None`` for nothing.

    Raises what the session raises.
    """
    volume = load_volume()
    folder, file = from_sddl(STAGED_DIRECTORY).to_bytes(), from_sddl(STAGED_FILE).to_bytes()
    session.mount(volume)
    session.make_directory(FOLDER, security=folder)
    session.put(f"{FOLDER}/small", BytesSource(SMALL), security=file)
    session.put(f"{FOLDER}/large", BytesSource(SMALL))
    session.put(f"{FOLDER}/LARGE", BytesSource(LARGE))
    session.put(f"{FOLDER}/gone", BytesSource(LARGE))
    session.resize(f"{FOLDER}/small", len(LARGE))
    for number in range(40):  # the directory needs an index block
        session.put(f"{FOLDER}/a file with a long name {number}", BytesSource(b""))
    session.remove(f"{FOLDER}/gone")
    session.finish()
    return _judge(NtfsFilesystem(volume))


def _judge(filesystem: NtfsFilesystem) -> str | None:
    wanted = {f"a file with a long name {number}": b"" for number in range(40)}
    wanted |= {"small": SMALL.ljust(len(LARGE), b"\0"), "large": LARGE}
    found = {entry.name for entry in filesystem.list(FOLDER)}
    if found != wanted.keys():
        return f"the self-test finds other names: {sorted(found ^ wanted.keys())[:3]}"
    for name, content in wanted.items():
        file = filesystem.open(f"{FOLDER}/{name}")
        if file.size != len(content) or file.read_at(0, len(content)) != content:
            return f"the self-test finds another content in {name!r}"
    return None
