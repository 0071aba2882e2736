"""Small VHDX files for the tests: a plain one to damage, places in it, and a loop that reads a layer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.create_vhdx import Block, Identity, Layout, write_vhdx
from vhdtool.disk.device import FileDevice, Origin
from vhdtool.disk.vhdx import VhdxLayer, open_vhdx
from vhdtool.disk.vhdx_header import Header, encode_header

MIB = 1 << 20
IDENTITY = Identity(
    file_write=UUID("11111111-1111-4111-8111-111111111111"),
    data_write=UUID("22222222-2222-4222-8222-222222222222"),
    virtual_disk=UUID("33333333-3333-4333-8333-333333333333"),
)
PARENT_GUID = UUID("44444444-4444-4444-8444-44444444444a")
PARENT = {"parent_linkage": f"{{{PARENT_GUID}}}", "relative_path": ".\\base.vhdx"}
LOG_GUID = UUID("55555555-5555-4555-8555-555555555555")


def pattern(number: int, size: int) -> bytes:
    """Bytes that name their place: no two 16-byte groups of a test's images are equal."""
    return b"".join(number.to_bytes(8, "big") + place.to_bytes(8, "big") for place in range(size // 16))


def make(path: Path, **wanted: Any) -> Layout:
    """Write an image of 4 MiB in blocks of 1 MiB, unless the test wants another."""
    settings: dict[str, Any] = {"virtual_size": 4 * MIB, "block_size": MIB, "identity": IDENTITY}
    if wanted.get("kind") == "differencing":
        settings["parent"] = PARENT
    return write_vhdx(path, **(settings | wanted))


def make_plain(path: Path) -> Layout:
    """An image with one block of data, for tests that damage it."""
    return make(path, blocks={1: Block(data=pattern(1, MIB))})


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def stored(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def change(path: Path, offset: int, length: int, edit: Callable[[bytes], bytes]) -> None:
    overwrite(path, offset, edit(stored(path, offset, length)))


def write_headers(path: Path, first: Header, second: Header | None = None) -> None:
    for offset, header in zip(fmt.HEADER_OFFSETS, (first, second or first), strict=True):
        overwrite(path, offset, encode_header(header))


def write_region_tables(path: Path, table: bytes) -> None:
    for offset in fmt.REGION_TABLE_OFFSETS:
        overwrite(path, offset, table)


@contextmanager
def opened(path: Path) -> Iterator[VhdxLayer]:
    file = FileDevice(path)
    try:
        yield open_vhdx(file)
    finally:
        file.close()


def read(layer: VhdxLayer, offset: int, length: int, parent: bytes = b"") -> bytes:
    """What the layer makes of a range; ``parent`` is the parent's disk, zeros after its end."""
    result = bytearray(length)
    expected = offset
    for run in layer.resolve(offset, length):
        assert run.offset == expected
        assert run.length > 0
        expected += run.length
        place = run.offset - offset
        if run.origin is Origin.DATA:
            layer.read_stored(run.file_offset, memoryview(result)[place : place + run.length])
        elif run.origin is Origin.PARENT:
            below = parent[run.offset : run.offset + run.length]
            result[place : place + len(below)] = below
    assert expected == offset + length
    return bytes(result)


def read_all(path: Path, parent: bytes = b"") -> bytes:
    with opened(path) as layer:
        return read(layer, 0, layer.info.virtual_size, parent)


def codes(layer: VhdxLayer) -> list[str]:
    return [problem.code for problem in layer.info.problems]


@contextmanager
def memory_peak() -> Iterator[Callable[[], int]]:
    """Trace the block; afterwards the call returns the most bytes that were held in it."""
    peak = 0
    tracemalloc.start()
    try:
        yield lambda: peak
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
