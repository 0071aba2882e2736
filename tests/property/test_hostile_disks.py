"""Images made to hurt: chains that lead in circles, structures that overlap, sizes that no machine has.

Each ends within the bounds of time and memory with the error that its code names, or opens with a reported problem.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz import inputs, vhd_images, vhdx_images
from tests.fuzz.vhd_images import DIFFERENCING, VhdLayer, write_vhd
from tests.fuzz.vhdx_images import BAT_AT, FULL, METADATA_AT, MIB, Layer, LogWrite, seal, write_log, write_vhdx
from tests.property.bounds import bounded
from vhdtool.disk import vhdx_format
from vhdtool.disk.chain import open_disk
from vhdtool.disk.device import FileDevice
from vhdtool.errors import InputError
from vhdtool.layout import offset_of
from vhdtool.volume.partitions import read_volumes


def refusal(path: Path) -> str:
    """The code that opening and reading the image ends with."""
    with bounded(), pytest.raises(InputError) as caught, open_disk(path) as disk:
        disk.read_at(0, 8 * MIB)
    error = caught.value
    assert error.exit_code == 3
    assert error.message
    assert error.path
    return error.code


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


# --- looping -------------------------------------------------------------------------------------------------------


def looping_vhdx(folder: Path, names: list[str]) -> Path:
    """Children each of which names the next as its parent, and the last the first; all linkages are right."""
    for number, name in enumerate(names):
        after = (number + 1) % len(names)
        parent = Layer(after + 1, 2 * MIB, {})
        write_vhdx(folder / name, Layer(number + 1, 2 * MIB, {}, parent=parent, parent_path=names[after]))
    return folder / names[0]


@pytest.mark.parametrize("names", [["a.vhdx"], ["a.vhdx", "b.vhdx"], ["a.vhdx", "b.vhdx", "c.vhdx"]])
def test_a_vhdx_chain_in_a_circle(tmp_path: Path, names: list[str]) -> None:
    assert "loop" in refusal(looping_vhdx(tmp_path, names))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_vhd_chain_in_a_circle(tmp_path: Path, count: int) -> None:
    for number in range(count):
        after = (number + 1) % count
        parent = VhdLayer(after + 1, 2 * MIB)
        write_vhd(
            tmp_path / f"{number}.vhd",
            VhdLayer(number + 1, 2 * MIB, kind=DIFFERENCING, parent=parent, parent_path=f"{after}.vhd"),
        )
    assert "loop" in refusal(tmp_path / "0.vhd")


def test_a_chain_through_symbolic_links_in_a_circle(tmp_path: Path) -> None:
    """Every link is a new name, the file behind is the same."""
    path = looping_vhdx(tmp_path, ["a.vhdx", "b.vhdx"])
    (tmp_path / "b.vhdx").unlink()
    (tmp_path / "b.vhdx").symlink_to(path)
    assert refusal(path) in {"parent-loop", "parent-mismatch", "parent-missing"}


def test_a_chain_that_is_too_deep(tmp_path: Path) -> None:
    layer = Layer(1, 2 * MIB, {})
    write_vhdx(tmp_path / "0.vhdx", layer)
    for number in range(1, 300):
        layer = replace(
            Layer(number + 1, 2 * MIB, {}), parent=replace(layer, parent=None), parent_path=f"{number - 1}.vhdx"
        )
        write_vhdx(tmp_path / f"{number}.vhdx", layer)
    assert "deep" in refusal(tmp_path / "299.vhdx")


# --- overlapping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        pytest.param(1, lambda places: places[0] | FULL, id="two blocks at one place"),
        pytest.param(1, lambda places: BAT_AT | FULL, id="over the BAT"),
        pytest.param(1, lambda places: METADATA_AT | FULL, id="over the metadata"),
        pytest.param(1, lambda places: vhdx_images.LOG_AT | FULL, id="over the log"),
        pytest.param(1, lambda places: FULL, id="over the headers"),
        pytest.param(1, lambda places: (1 << 50) | FULL, id="beyond the file"),
    ],
)
def test_vhdx_blocks_that_overlap(tmp_path: Path, entry: int, value: Callable[[dict[int, int]], int]) -> None:
    path = tmp_path / "disk.vhdx"
    written = write_vhdx(path, Layer(1, 4 * MIB, dict.fromkeys(range(4), FULL)))
    patch(path, BAT_AT + 8 * entry, struct.pack("<Q", value(written.blocks)))
    assert refusal(path) in {"vhdx-block-overlap", "vhdx-block-outside-file"}


@pytest.mark.parametrize("value", [0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFE], ids=hex)
def test_vhd_blocks_that_overlap(tmp_path: Path, value: int) -> None:
    path = tmp_path / "disk.vhd"
    whole = frozenset(range(1024))
    write_vhd(path, VhdLayer(1, 2 * MIB, dict.fromkeys(range(4), whole), 512 << 10))
    patch(path, 1536 + 4, struct.pack(">I", value))
    assert refusal(path) in {"vhd-block-overlap", "vhd-block-outside-file"}


def test_two_vhd_blocks_at_one_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    whole = frozenset(range(1024))
    places = write_vhd(path, VhdLayer(1, 2 * MIB, dict.fromkeys(range(4), whole), 512 << 10))
    patch(path, 1536 + 4, struct.pack(">I", places[3] // 512))
    assert refusal(path) == "vhd-block-overlap"


def test_regions_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    write_vhdx(path, Layer(1, 4 * MIB, {0: FULL}))
    place = vhdx_format.REGION_TABLE_HEADER.sizeof() + offset_of(vhdx_format.REGION_ENTRY, "file_offset")
    for at in vhdx_format.REGION_TABLE_OFFSETS:
        table = bytearray(path.read_bytes()[at : at + vhdx_format.REGION_TABLE_SIZE])
        table[place : place + 8] = struct.pack("<Q", METADATA_AT)
        patch(path, at, seal(bytes(table)))
    assert refusal(path) == "vhdx-region-overlap"


# --- oversized -----------------------------------------------------------------------------------------------------


def oversized_vhdx(folder: Path, size: int, block_size: int = MIB) -> Path:
    path = folder / "disk.vhdx"
    write_vhdx(path, Layer(1, 4 * MIB, {0: FULL}))
    patch(path, METADATA_AT + vhdx_format.METADATA_TABLE_SIZE, struct.pack("<II", block_size, 0))
    patch(path, METADATA_AT + vhdx_format.METADATA_TABLE_SIZE + 8, struct.pack("<Q", size))
    return path


@pytest.mark.parametrize("size", [1 << 40, 64 << 40, (64 << 40) + 512, 1 << 62, (1 << 64) - 512], ids=hex)
def test_a_virtual_size_that_the_bat_can_not_hold(tmp_path: Path, size: int) -> None:
    assert refusal(oversized_vhdx(tmp_path, size)) in {"vhdx-metadata-value", "vhdx-bat-too-small"}


def test_a_disk_of_64_tib_in_a_sparse_file_is_read_lazily(tmp_path: Path) -> None:
    """All rules kept, 512 MiB of BAT: opening and looking must not read it whole."""
    path = tmp_path / "disk.vhdx"
    layer = Layer(1, 64 << 40, {0: FULL, (64 << 20) - 1: FULL})
    write_vhdx(path, layer)
    with bounded(), open_disk(path) as disk:
        assert disk.size == 64 << 40
        assert disk.read_at(disk.size - 600, 700) == vhdx_images.read_model(layer, disk.size - 600, 700)
        assert disk.read_at(1 << 45, 4096) == bytes(4096)
        assert disk.bytes_read < 2 * MIB


@pytest.mark.parametrize("block_size", [0, 1, 3 * MIB, 512 * MIB, 1 << 31])
def test_a_block_size_that_is_not_allowed(tmp_path: Path, block_size: int) -> None:
    assert refusal(oversized_vhdx(tmp_path, 4 * MIB, block_size)) == "vhdx-metadata-value"


@pytest.mark.parametrize("count", [0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
def test_log_entries_that_promise_too_much(tmp_path: Path, count: int) -> None:
    path = tmp_path / "disk.vhdx"
    layer = Layer(1, 4 * MIB, {0: FULL})
    write_vhdx(path, layer)
    write_log(path, layer, [[LogWrite(BAT_AT + 4096, b"\1" * 4096)]])
    entry = bytearray(path.read_bytes()[MIB : MIB + 8192])
    struct.pack_into("<I", entry, offset_of(vhdx_format.LOG_ENTRY_HEADER, "descriptor_count"), count)
    patch(path, MIB, seal(bytes(entry)))
    assert refusal(path) == "vhdx-log-no-valid-sequence"


@pytest.mark.parametrize("length", [1 << 30, 1 << 40, 1 << 62])
def test_a_log_that_zeroes_more_than_there_is(tmp_path: Path, length: int) -> None:
    path = tmp_path / "disk.vhdx"
    layer = Layer(1, 4 * MIB, {0: FULL})
    write_vhdx(path, layer)
    write_log(path, layer, [[LogWrite(BAT_AT + 4096, zeros=length)]])
    with bounded():
        try:
            with open_disk(path) as disk:
                assert len(disk.read_at(0, 8 * MIB)) == 4 * MIB
        except InputError:
            pass  # exit code 3, the other good end


def test_a_log_full_of_valid_entries_each_the_start_of_a_sequence(tmp_path: Path) -> None:
    """256 entries of one sector: the search for the active sequence must not be quadratic in their contents."""
    path = tmp_path / "disk.vhdx"
    layer = Layer(1, 4 * MIB, {0: FULL})
    write_vhdx(path, layer)
    write_log(path, layer, [[] for _ in range(255)])
    with bounded(), open_disk(path) as disk:
        assert disk.info.log == "replayed"
        assert disk.read_at(0, 100) == vhdx_images.read_model(layer, 0, 100)


@pytest.mark.parametrize(("entries", "block_size"), [(0xFFFFFFFF, 512), (1, 1 << 31), (0, 2 * MIB), (4, 0), (4, 513)])
def test_a_vhd_header_that_promises_too_much(tmp_path: Path, entries: int, block_size: int) -> None:
    path = tmp_path / "disk.vhd"
    write_vhd(path, VhdLayer(1, 4 * MIB, {0: frozenset(range(1024))}, 512 << 10))
    header = bytearray(path.read_bytes()[512:1536])
    struct.pack_into(">II", header, 28, entries, block_size)
    header[36:40] = bytes(4)
    header[36:40] = vhd_images.complement(bytes(header)).to_bytes(4, "big")
    patch(path, 512, bytes(header))
    with bounded():
        try:
            with open_disk(path) as disk:
                assert disk.size == 4 * MIB
                disk.read_at(0, 4 * MIB)
                assert disk.info.problems
        except InputError:
            pass  # exit code 3, the other good end


def test_extended_partitions_in_a_circle(tmp_path: Path) -> None:
    disk = bytearray(inputs.mbr_disk())
    disk[4048 * 512 + 446 + 16 : 4048 * 512 + 446 + 32] = bytes([0, 0, 0, 0, 5, 0, 0, 0]) + struct.pack(
        "<II", 1000, 1000
    )
    path = tmp_path / "disk.raw"
    path.write_bytes(disk)
    with bounded():
        table = read_volumes(FileDevice(path))
    assert [problem.code for problem in table.problems].count("extended-chain-damaged") == 1
    assert len(table.volumes) == 5


# --- truncated, zeroed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vhdx_dynamic", "vhdx_log", "vhdx_fixed", "vhd_dynamic"])
@pytest.mark.parametrize("step", range(12))
def test_an_image_cut_off_anywhere(tmp_path: Path, kind: str, step: int) -> None:
    """Never fewer bytes than the disk has without a word: an error, or a problem (the footer's copy is used)."""
    getattr(inputs, kind)(tmp_path)
    (path,) = tmp_path.iterdir()
    with open_disk(path) as disk:
        whole = disk.read_at(0, disk.size)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * step // 12])
    with bounded():
        try:
            with open_disk(path) as disk:
                assert disk.read_at(0, disk.size) == whole or disk.info.problems
                assert disk.size == len(whole)
        except InputError:
            pass  # exit code 3, the other good end


@pytest.mark.parametrize("kind", ["vhdx_dynamic", "vhdx_log", "vhdx_chain", "vhd_dynamic", "vhd_chain"])
def test_an_image_with_one_structure_zeroed(tmp_path: Path, kind: str) -> None:
    """Each 64 KiB of the first 4 MiB (VHDX), each 512 bytes of the first 4 KiB (VHD): headers, tables, items, BAT."""
    getattr(inputs, kind)(tmp_path)
    path = next(iter(tmp_path.glob("top.*")))
    with open_disk(path) as disk:
        whole = disk.read_at(0, disk.size)
        facts = (disk.info.type, disk.info.virtual_size)
    step, end = (64 << 10, 4 * MIB) if path.suffix == ".vhdx" else (512, 4096)
    data = path.read_bytes()
    silent = []
    for at in range(0, end, step):
        if not any(data[at : at + step]):
            continue
        patch(path, at, bytes(step))
        try:
            with open_disk(path) as disk:
                same = disk.read_at(0, disk.size) == whole and (disk.info.type, disk.info.virtual_size) == facts
                if not same and not disk.info.problems:
                    silent.append(at)
        except InputError:
            pass  # exit code 3, the other good end
        patch(path, at, data[at : at + step])
    allowed = {BAT_AT} if path.suffix == ".vhdx" else set(range(1536, 4096, 512))  # no checksum covers BAT and bitmaps
    assert set(silent) <= allowed
