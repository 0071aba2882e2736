"""Bytes as the file that they will be, for our layers and for libraries that want a file object."""

from __future__ import annotations

import os

import pytest

from tests.disk.vhdx_files import MIB, make, pattern
from vhdtool.bytesource import BytesSource
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.foreign_reader import DISSECT, PYVHDI, open_reader
from vhdtool.disk.open_layer import open_layer
from vhdtool.disk.source_file import SourceFile, SourceStream
from vhdtool.errors import DamagedError, InputError


class Failing(BytesSource):
    """A source whose reading fails from a place on."""

    limit = 1 << 62

    def read_at(self, offset, length):
        if offset + length > self.limit:
            raise InputError("read-failed", "reading failed", path="x", offset=offset)
        return super().read_at(offset, length)


def test_it_reads_as_a_file():
    file = SourceFile(BytesSource(b"0123456789"), "name.vhd")
    assert (file.path, file.size, file.logical_sector_size) == ("name.vhd", 10, 512)
    assert file.read_at(2, 3) == b"234"
    assert file.read_at(8, 10) == b"89"
    assert file.read_at(10, 1) == b""
    buffer = bytearray(4)
    assert file.read_into(8, memoryview(buffer)) == 2
    file.read_exactly_into(1, memoryview(buffer))
    assert buffer == b"1234"
    with pytest.raises(DamagedError) as caught:
        file.read_exactly_into(8, memoryview(buffer))
    assert caught.value.code == "truncated"
    assert file.bytes_read == 3 + 2 + 2 + 4 + 2
    file.close()
    assert file.read_at(0, 1) == b"0"


def test_our_layers_open_it(tmp_path):
    make(tmp_path / "a.vhdx", blocks={1: Block(data=pattern(1, MIB))})
    source = BytesSource((tmp_path / "a.vhdx").read_bytes())
    with VirtualDisk([open_layer(SourceFile(source, "would-be.vhdx"))]) as disk:
        assert disk.info.path == "would-be.vhdx"
        assert disk.read_at(MIB, MIB) == pattern(1, MIB)


@pytest.mark.parametrize("reader", [PYVHDI, DISSECT])
def test_foreign_readers_open_it(tmp_path, reader):
    make(tmp_path / "a.vhdx", blocks={1: Block(data=pattern(1, MIB))})
    source = Failing((tmp_path / "a.vhdx").read_bytes())
    with VirtualDisk([open_layer(SourceFile(source, "would-be.vhdx"))]) as disk:
        other = open_reader(reader, disk)
        assert other.size == 4 * MIB
        assert other.read(MIB - 512, 1024) == bytes(512) + pattern(1, 512)
        source.limit = 0
        with pytest.raises(InputError) as caught:
            other.read(MIB + 8192, 512)
        assert caught.value.code == "read-failed"
        other.close()


def test_a_stream_keeps_the_error_to_itself():
    source = Failing(bytes(100))
    source.limit = 50
    stream = SourceStream(SourceFile(source, "x"))
    assert stream.get_size() == stream.size == 100
    assert stream.read(20) == bytes(20)
    assert stream.tell() == 20
    assert stream.seek(-10, os.SEEK_END) == 90
    assert stream.error is None
    assert stream.read(5) == b""
    assert stream.error is not None
    assert stream.error.code == "read-failed"
    stream.seek(0)
    assert stream.read(5) == b""
