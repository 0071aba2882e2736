"""Arbitrary VHDX layouts read through the chain equal a naive model; arbitrary logs equal a naive replay."""

from __future__ import annotations

import itertools
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, note
from hypothesis import strategies as st

from tests.fuzz.vhdx_images import (
    BAT_AT,
    FULL,
    MIB,
    NOT_PRESENT,
    PARTIAL,
    UNDEFINED,
    UNMAPPED,
    ZERO,
    Layer,
    LogWrite,
    apply_log,
    read_model,
    write_log,
    write_vhdx,
)
from vhdtool.disk.chain import VirtualDisk, open_disk

EMPTY_STATES = [NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vhdtool-property-") as name:
        yield Path(name)


@st.composite
def sectors(draw: st.DrawFn, per_block: int) -> frozenset[int]:
    """Sectors that are present: a few runs, as real bitmaps have, also at the block's edges."""
    found: set[int] = set()
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.one_of(st.integers(0, per_block - 1), st.sampled_from([0, 7, 8, per_block - 1])))
        found.update(range(first, min(per_block, first + draw(st.integers(1, 40)))))
    return frozenset(found)


@st.composite
def chains(draw: st.DrawFn) -> list[Layer]:
    """The layers of a chain of depth 1 to 4, the base first; every file has its own size of disk and of blocks."""
    depth = draw(st.integers(1, 4))
    sector_size = draw(st.sampled_from([512, 4096]))
    layers: list[Layer] = []
    for number in range(1, depth + 1):
        block_size = draw(st.sampled_from([MIB, MIB, 2 * MIB]))
        size = draw(st.integers(1, 6 * MIB // sector_size)) * sector_size
        parent = layers[-1] if layers else None
        blocks = -(-size // block_size)
        allowed = [*EMPTY_STATES, FULL] + ([PARTIAL] if parent else [])
        states = {block: draw(st.sampled_from(allowed)) for block in range(blocks) if draw(st.booleans())}
        per_block = block_size // sector_size
        present = {block: draw(sectors(per_block)) for block, state in states.items() if state == PARTIAL}
        anchors = frozenset(
            block for block, state in states.items() if state in (UNDEFINED, UNMAPPED) and draw(st.booleans())
        )
        layers.append(
            Layer(
                number,
                size,
                states,
                present,
                block_size,
                sector_size,
                parent=parent,
                parent_path=f"layer{number - 1}.vhdx",
                anchors=anchors,
            )
        )
    return layers


def read_requests(size: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    edges = st.builds(lambda block, step: max(0, block * MIB + step), st.integers(0, 7), st.integers(-5000, 5000))
    request = st.tuples(
        st.one_of(st.integers(0, size + 10), edges), st.one_of(st.integers(0, 9000), st.integers(0, 3 * MIB))
    )
    return st.lists(request, min_size=1, max_size=8)


def check_reads(disk: VirtualDisk, layer: Layer, requests: list[tuple[int, int]]) -> None:
    for offset, length in requests:
        expected = read_model(layer, offset, length)
        assert disk.read_at(offset, length) == expected, (offset, length)
        buffer = bytearray(b"\xaa" * length)
        assert disk.read_into(offset, memoryview(buffer)) == len(expected)
        assert bytes(buffer[: len(expected)]) == expected


@given(st.data())
def test_chains_read_as_the_model(data: st.DataObject) -> None:
    layers = data.draw(chains())
    with folder() as place:
        for layer in layers:
            write_vhdx(place / f"layer{layer.number}.vhdx", layer)
        top = layers[-1]
        note(f"{len(layers)} layers, sector {top.sector_size}, sizes {[layer.virtual_size for layer in layers]}")
        with open_disk(place / f"layer{top.number}.vhdx") as disk:
            assert disk.size == top.virtual_size
            assert disk.logical_sector_size == top.sector_size
            check_reads(disk, top, data.draw(read_requests(top.virtual_size)))
            assert disk.read_at(0, disk.size) == read_model(top, 0, top.virtual_size)
            assert disk.info.problems == ()


@given(st.data())
def test_extents_tell_where_the_bytes_are(data: st.DataObject) -> None:
    layers = data.draw(chains())
    with folder() as place:
        for layer in layers:
            write_vhdx(place / f"layer{layer.number}.vhdx", layer)
        top = layers[-1]
        with open_disk(place / f"layer{top.number}.vhdx") as disk:
            position = 0
            for extent in disk.extents():
                assert extent.offset == position
                assert extent.length > 0
                position += extent.length
                expected = read_model(top, extent.offset, extent.length)
                if extent.kind == "data":
                    assert extent.layer is not None
                    assert extent.file_offset is not None
                    stored = Path(disk.layers[extent.layer].info.path)
                    with stored.open("rb") as file:
                        file.seek(extent.file_offset)
                        assert file.read(extent.length) == expected
                else:
                    assert not any(expected)
            assert position == top.virtual_size


@given(
    st.sampled_from([512, 4096]),
    st.sets(st.integers(0, 70_000), max_size=4),
    st.sets(st.integers(0, 70_000), max_size=4),
    st.data(),
)
def test_blocks_of_several_chunks(sector_size: int, full: set[int], partial: set[int], data: st.DataObject) -> None:
    """Sparse disks of many gigabytes: the BAT entries of the bitmap blocks lie between those of the payload."""
    blocks = 70_001
    size = blocks * MIB
    parent = Layer(1, size, dict.fromkeys(full, FULL), sector_size=sector_size)
    ends = {0, 4095, 4096, 32767, 32768} & {data.draw(st.sampled_from([0, 4095, 4096, 32767, 32768]))}
    states = {**dict.fromkeys(ends, FULL), **dict.fromkeys(partial, PARTIAL)}
    present = {block: data.draw(sectors(MIB // sector_size)) for block in partial}
    child = Layer(2, size, states, present, sector_size=sector_size, parent=parent, parent_path="parent.vhdx")
    with folder() as place:
        write_vhdx(place / "parent.vhdx", parent)
        write_vhdx(place / "child.vhdx", child)
        with open_disk(place / "child.vhdx") as disk:
            for block in sorted({0, blocks - 1} | full | set(states)):
                check_reads(disk, child, [(max(0, block * MIB - 700), 5000), (block * MIB + 4096 * 3 + 1, 70_000)])
            data_bytes = sum(extent.length for extent in disk.extents() if extent.kind == "data")
            most = (len(full | set(states))) * MIB
            assert data_bytes <= most


@st.composite
def log_entries(draw: st.DrawFn, blocks: dict[int, int], bat: bytes) -> list[list[LogWrite]]:
    """One to three entries that change BAT sectors and the (otherwise unused) rest of the BAT region."""
    entries = []
    for _ in range(draw(st.integers(1, 3))):
        writes = []
        for _ in range(draw(st.integers(1, 6))):
            match draw(st.sampled_from(["bat", "junk", "zero", "zero-bat"])):
                case "bat":  # the stored blocks change places, some go away: no two of them at one offset
                    empty = draw(st.lists(st.sampled_from([0, 2, 3]), min_size=8, max_size=8))
                    values = [place | 6 for place in blocks.values()] + empty
                    row = draw(st.permutations(values[:8] if draw(st.booleans()) else values[-8:]))
                    sector = struct.pack("<8Q", *row).ljust(len(bat), b"\0")
                    writes.append(LogWrite(BAT_AT, sector))
                case "junk":
                    where = BAT_AT + 4096 * draw(st.integers(1, 255))
                    writes.append(LogWrite(where, draw(st.binary(min_size=1, max_size=16)).ljust(4096, b"\x5a")))
                case "zero":
                    where = BAT_AT + 4096 * draw(st.integers(1, 200))
                    writes.append(LogWrite(where, zeros=4096 * draw(st.integers(1, 50))))
                case _:
                    writes.append(LogWrite(BAT_AT, zeros=4096))
        entries.append(writes)
    return entries


@given(st.data(), st.integers(0, 255), st.sampled_from([1, 100, 2**32 - 1, 2**40]))
def test_a_pending_log_reads_as_if_it_were_replayed(data: st.DataObject, start: int, sequence: int) -> None:
    states = {block: data.draw(st.sampled_from([NOT_PRESENT, ZERO, FULL])) for block in range(8)}
    layer = Layer(1, 8 * MIB, states)
    with folder() as place:
        pending, applied = place / "pending.vhdx", place / "applied.vhdx"
        written = write_vhdx(pending, layer)
        with pending.open("rb") as file:
            file.seek(BAT_AT)
            bat = file.read(4096)
        entries = data.draw(log_entries(written.blocks, bat))
        shutil.copyfile(pending, applied)
        apply_log(applied, entries)
        write_log(pending, layer, entries, sequence=sequence, start=start * 4096)
        before = pending.read_bytes()
        with open_disk(pending) as replayed, open_disk(applied) as naive:
            assert replayed.info.log == "replayed"
            assert naive.info.log == "clean"
            assert replayed.read_at(0, replayed.size) == naive.read_at(0, naive.size)
            assert [e.kind for e in replayed.extents()] == [e.kind for e in naive.extents()]
        assert pending.read_bytes() == before


@given(st.data(), st.integers(0, 255))
def test_a_torn_log_reads_as_the_entries_before_the_tear(data: st.DataObject, start: int) -> None:
    """The last entry is cut anywhere: the reader sees the state before it, or refuses where nothing is left."""
    layer = Layer(1, 8 * MIB, dict.fromkeys(range(4), FULL))
    with folder() as place:
        pending, applied = place / "pending.vhdx", place / "applied.vhdx"
        written = write_vhdx(pending, layer)
        shutil.copyfile(pending, applied)
        orders = itertools.islice(itertools.permutations(written.blocks.values()), 3)
        bats = [struct.pack("<4Q", *(at | 6 for at in order)).ljust(4096, b"\0") for order in orders]
        entries = [[LogWrite(BAT_AT, bat)] for bat in bats]
        apply_log(applied, entries[:2])
        write_log(pending, layer, entries, start=start * 4096)
        torn = (start + 2 * 2) % 256  # every entry has two sectors
        sector = (torn + data.draw(st.integers(0, 1))) % 256
        with pending.open("r+b") as file:
            file.seek(MIB + sector * 4096 + data.draw(st.integers(0, 4095)))
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ data.draw(st.integers(1, 255))]))
        with open_disk(pending) as disk, open_disk(applied) as naive:
            assert disk.info.log == "replayed"
            assert disk.read_at(0, disk.size) == naive.read_at(0, naive.size)
