"""Steps of a session with the NTFS writer, and what a volume says of a file afterwards."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dissect.ntfs
import pytest

from tests.data_files import data_file
from tests.oracle.ntfs_accounting import FILE_NAME, Ledger
from tests.oracle.ntfs_volumes import FileVolume
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs3g_self_test import MemoryVolume
from vhdtool.fs.security_descriptor import parse_descriptor
from vhdtool.fs.writer import FileWriter, WriterReport, open_writer

WINDOWS_VOLUME = "ntfs/fox-it__dissect.ntfs/ntfs.bin.gz"
STANDARD_INFORMATION, SECURITY_DESCRIPTOR = 0x10, 0x50


def write(path: Path, *steps: Callable[[FileWriter], None], sector: int = 512) -> WriterReport:
    """One session on a volume in a file."""
    with closing(FileVolume(path, sector)) as volume:
        writer = open_writer(volume)
        try:
            for step in steps:
                step(writer)
            return writer.finish()
        finally:
            writer.abort()


def reader(path: Path) -> NtfsFilesystem:
    """Our own reader over the volume as it is now."""
    return NtfsFilesystem(MemoryVolume(path.read_bytes()))


def record_of(path: Path, name: str) -> int:
    stat = reader(path).stat(name)
    assert stat is not None
    assert stat.record is not None
    return stat.record


def put(path: str, content: bytes, **options: Any) -> Callable[[FileWriter], None]:
    return lambda writer: writer.put(path, BytesSource(content), **options)


def make(path: str, **options: Any) -> Callable[[FileWriter], None]:
    return lambda writer: writer.make_directory(path, **options)


def remove(path: str) -> Callable[[FileWriter], None]:
    return lambda writer: writer.remove(path)


def resize(path: str, size: int) -> Callable[[FileWriter], None]:
    return lambda writer: writer.resize(path, size)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, step: Callable[[FileWriter], None], code: str) -> None:
    """It is refused by that code, ends 4 or 1, and not a byte of the volume is another."""
    before = digest(path)
    with pytest.raises(VhdtoolError) as caught:
        write(path, step)
    assert caught.value.code == code
    assert caught.value.exit_code in (1, 4)
    assert digest(path) == before


def made_by_windows(path: Path) -> Path:
    """The volume that Windows made, with room: three of its compressed files are removed."""
    path.write_bytes(data_file(WINDOWS_VOLUME).read_bytes())
    write(path, remove("/Large.txt"), remove("/Random.bin"), remove("/File.txt"))
    return path


def facts(path: Path, name: str) -> tuple[int, int, str]:
    """File attributes, security id, and the descriptor as text, by dissect and our reader's record number."""
    with path.open("rb") as file:
        volume = dissect.ntfs.NTFS(file)
        record = volume.mft.get(record_of(path, name))
        information = record.attributes[STANDARD_INFORMATION][0].attribute
        number = information.security_id
        if number:
            data = descriptors(volume.mft.get(9).open("$SDS").read())[number]
            assert not record.attributes.get(SECURITY_DESCRIPTOR), name
        else:
            data = record.attributes[SECURITY_DESCRIPTOR][0].data()
        return int(information.attr.FileAttributes), number, parse_descriptor(data).to_sddl()


def descriptors(stream: bytes) -> dict[int, bytes]:
    """$Secure:$SDS by number; the second copy of each block is the first's."""
    found = {}
    offset = 0
    while offset + 20 <= len(stream):
        _, number, place, size = struct.unpack_from("<IIQI", stream, offset)
        if size < 20:
            break
        assert place == offset
        assert stream[offset : offset + size] == stream[offset + 0x40000 :][:size]
        found[number] = stream[offset + 20 : offset + size]
        offset = -(-(offset + size) // 16) * 16
    return found


def names_of(path: Path, name: str) -> dict[str, int]:
    """The names of a file with their name spaces."""
    values = (one.value for one in Ledger(path).attributes(record_of(path, name), FILE_NAME))
    return {value[66:].decode("utf-16-le"): value[65] for value in values}
