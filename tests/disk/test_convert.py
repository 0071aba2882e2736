from __future__ import annotations

import os
from uuid import UUID

import pytest

from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhd_files import KIB, MIB, make, open_disk
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, memory_peak
from tests.disk.vhdx_files import make as make_vhdx
from tests.fuzz import vhd_images, vhdx_images
from vhdtool.disk import convert
from vhdtool.disk.convert import convert_image, convert_to_raw
from vhdtool.disk.create_vhdx import Block, Identity, PendingEntry, PendingLog, write_vhdx
from vhdtool.disk.image_writer import stored_parts
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.errors import DamagedError, OutputError, RefusedError, UsageError


class Listener:
    def __init__(self, stop_after=None):
        self.told = []
        self.done = 0
        self._stop_after = stop_after

    def start(self, what, total):
        self.told.append((what, total))

    def advance(self, done):
        self.done += done
        if self._stop_after is not None and self.done > self._stop_after:
            raise KeyboardInterrupt

    def finish(self):
        self.told.append("finish")


@pytest.mark.parametrize(
    ("chain", "suffix", "model"),
    [(vhd_chain, "vhd", vhd_images.read_model), (vhdx_chain, "vhdx", vhdx_images.read_model)],
)
def test_a_chain_as_one_file(tmp_path, chain, suffix, model):
    top = chain(tmp_path)[-1]
    out, listener = tmp_path / "out.raw", Listener()
    before = sorted(path.name for path in tmp_path.iterdir())
    with open_disk(tmp_path / f"layer3.{suffix}") as disk:
        converted = convert_to_raw(disk, out, listener)
    assert out.read_bytes() == model(top, 0, top.virtual_size)
    assert converted.size == top.virtual_size
    assert listener.told == [("convert", top.virtual_size), "finish"]
    assert listener.done == top.virtual_size
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "out.raw"]


def test_holes_and_zeros_are_not_written(tmp_path):
    path, out = tmp_path / "a.vhd", tmp_path / "out.raw"
    size = 4 << 40 >> 2  # 1 TiB
    make(path, virtual_size=size, blocks={0: frozenset({0, 4000})})
    with open_disk(path) as disk:
        converted = convert_to_raw(disk, out)
    assert out.stat().st_size == size
    assert converted.written == 2 * 64 * KIB or converted.written == 1024
    assert out.stat().st_blocks * 512 < 2 * MIB


def test_pieces_that_end_anywhere(tmp_path):
    path, out = tmp_path / "a.vhd", tmp_path / "out.raw"
    layer = make(path, virtual_size=3 * MIB + 512, blocks={0: frozenset(range(3, 4000, 7)), 1: frozenset({2000, 2048})})
    with open_disk(path) as disk:
        convert_to_raw(disk, out)
    assert out.read_bytes() == vhd_images.read_model(layer, 0, 3 * MIB + 512)


def test_the_umask_rules_the_new_file(tmp_path):
    make(tmp_path / "a.vhd")
    old = os.umask(0o027)
    try:
        with open_disk(tmp_path / "a.vhd") as disk:
            convert_to_raw(disk, tmp_path / "out.raw")
    finally:
        os.umask(old)
    if os.name == "posix":
        assert (tmp_path / "out.raw").stat().st_mode & 0o777 == 0o640


def refused(disk, out):
    with pytest.raises((OutputError, RefusedError)) as caught:
        convert_to_raw(disk, out)
    return caught.value.code


def test_nothing_is_overwritten(tmp_path):
    vhd_chain(tmp_path)
    out = tmp_path / "out.raw"
    out.write_bytes(b"mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.link(tmp_path / "layer1.vhd", tmp_path / "same.raw")
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with open_disk(tmp_path / "layer3.vhd") as disk:
        assert refused(disk, out) == "output-exists"
        assert refused(disk, tmp_path / "dangling") == "output-exists"
        assert refused(disk, tmp_path) == "output-exists"
        for name in ("layer3.vhd", "layer1.vhd", "same.raw"):
            assert refused(disk, tmp_path / name) == "output-is-input"
        assert refused(disk, tmp_path / "no" / "folder") == "cannot-write"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == contents


def test_a_file_that_appears_meanwhile_stays(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")
    out = tmp_path / "out.raw"
    real = convert.fill

    def write_and_lose(*arguments):
        out.write_bytes(b"mine")
        return real(*arguments)

    monkeypatch.setattr(convert, "fill", write_and_lose)
    for link in (os.link, None):
        if link is None:
            monkeypatch.setattr(os, "link", no_links)
        with open_disk(tmp_path / "a.vhd") as disk:
            out.unlink(missing_ok=True)
            assert refused(disk, out) == "output-exists"
        assert out.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vhd", "out.raw"]


def no_links(*_):
    raise PermissionError(1, "no links here")


def test_a_file_system_without_links(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")
    monkeypatch.setattr(os, "link", no_links)
    with open_disk(tmp_path / "a.vhd") as disk:
        convert_to_raw(disk, tmp_path / "out.raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vhd", "out.raw"]


def test_an_interruption_leaves_nothing(tmp_path):
    make(tmp_path / "a.vhd")
    listener = Listener(stop_after=MIB)
    with open_disk(tmp_path / "a.vhd") as disk, pytest.raises(KeyboardInterrupt):
        convert_to_raw(disk, tmp_path / "out.raw", listener)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhd"]
    assert listener.told[-1] == "finish"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")

    def full(*_):
        raise OSError(28, "No space left on device")

    with open_disk(tmp_path / "a.vhd") as disk:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            convert_to_raw(disk, tmp_path / "out.raw")
    assert caught.value.code == "cannot-write"
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhd"]


def test_a_damaged_image_leaves_nothing(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    with path.open("r+b") as file:
        file.seek(1536 + 8)
        file.write(b"\x7f\xff\xff\xff")
    with open_disk(path) as disk, pytest.raises(DamagedError):
        convert_to_raw(disk, tmp_path / "out.raw")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vhd"]


KINDS = [("vhdx", "fixed"), ("vhdx", "dynamic"), ("vhd", "fixed"), ("vhd", "dynamic"), ("raw", "fixed")]


@pytest.mark.parametrize(
    ("chain", "suffix", "model"),
    [(vhd_chain, "vhd", vhd_images.read_model), (vhdx_chain, "vhdx", vhdx_images.read_model)],
)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_chain_as_every_kind(tmp_path, chain, suffix, model, wanted):
    form, kind = wanted
    top = chain(tmp_path)[-1]
    out = tmp_path / f"out.{form}"
    with open_disk(tmp_path / f"layer3.{suffix}") as disk:
        converted = convert_image(disk, out, format=form, kind=kind)
    assert (converted.path, converted.size) == (str(out), out.stat().st_size)
    with open_disk(out) as disk:
        assert (disk.info.format, disk.info.type) == (form, kind)
        assert disk.read_at(0, disk.size) == model(top, 0, top.virtual_size)
        assert not disk.info.problems
        assert len(disk.layers) == 1


@pytest.mark.parametrize(
    ("source", "form", "given", "expected"),
    [
        ("vhdx", "vhdx", None, 8), ("vhdx", "vhdx", 2, 2), ("vhdx", "vhd", None, 2), ("vhd", "vhd", None, 2),
        ("vhd", "vhdx", None, 32), ("vhd", "vhd", 1, 1),
    ],
)  # fmt: skip
def test_block_sizes(tmp_path, source, form, given, expected):
    if source == "vhdx":
        make_vhdx(tmp_path / "a.vhdx", block_size=8 * MIB)
    else:
        make(tmp_path / "a.vhd")
    with open_disk(tmp_path / f"a.{source}") as disk:
        size = given and given * MIB
        convert_image(disk, tmp_path / f"out.{form}", format=form, kind="dynamic", block_size=size)
    with open_disk(tmp_path / f"out.{form}") as disk:
        assert disk.info.block_size == expected * MIB


def test_sectors_and_the_identity_that_the_guest_sees_stay(tmp_path):
    make_vhdx(tmp_path / "a.vhdx", logical_sector_size=4096, blocks={1: Block(data=b"x" * 9000)})
    with open_disk(tmp_path / "a.vhdx") as disk:
        convert_image(disk, tmp_path / "b.vhdx", format="vhdx", kind="fixed")
        convert_image(disk, tmp_path / "b.img", format="raw", kind="fixed")
        with pytest.raises(UsageError) as caught:
            convert_image(disk, tmp_path / "b.vhd", format="vhd", kind="fixed")
        assert caught.value.code == "vhd-sector-size"
    with open_disk(tmp_path / "b.vhdx") as disk:
        assert (disk.logical_sector_size, disk.info.physical_sector_size) == (4096, 4096)
        assert disk.layers[0].virtual_disk_id == IDENTITY.virtual_disk
        assert disk.layers[0].data_write_guid not in {IDENTITY.data_write, IDENTITY.file_write}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vhdx", "b.img", "b.vhdx"]


def test_names_and_kinds_that_contradict(tmp_path):
    make(tmp_path / "a.vhd")
    calls = [
        ("out.vhd", "vhdx", "fixed", None, "output-format"),
        ("out.img", "vhdx", "fixed", None, "output-format"),
        ("out.vhdx", "raw", "fixed", None, "output-format"),
        ("out.raw", "raw", "dynamic", None, "raw-is-flat"),
        ("out.raw", "raw", "fixed", MIB, "raw-is-flat"),
        ("out.vhdx", "vhdx", "dynamic", 3 * MIB, "vhdx-create-invalid"),
        ("out.vhdx", "vhdx", "dynamic", 512 * MIB, "vhdx-create-invalid"),
        ("out.vhd", "vhd", "dynamic", 1000, "vhd-create-invalid"),
    ]
    with open_disk(tmp_path / "a.vhd") as disk:
        for name, form, kind, block_size, code in calls:
            with pytest.raises(UsageError) as caught:
                convert_image(disk, tmp_path / name, format=form, kind=kind, block_size=block_size)
            assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhd"]


def test_a_disk_too_large_for_a_vhd(tmp_path):
    make_vhdx(tmp_path / "a.vhdx", virtual_size=(2040 << 30) + 4096, block_size=256 * MIB)
    for kind in ("fixed", "dynamic"):
        with open_disk(tmp_path / "a.vhdx") as disk, pytest.raises(UsageError) as caught:
            convert_image(disk, tmp_path / "out.vhd", format="vhd", kind=kind)
        assert caught.value.code == "vhd-create-invalid"
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhdx"]


def test_blocks_of_zeros_get_no_place(tmp_path):
    make_vhdx(tmp_path / "a.vhdx", virtual_size=8 * MIB, blocks={1: Block(data=bytes(MIB)), 5: Block(data=b"5")})
    with open_disk(tmp_path / "a.vhdx") as disk:
        convert_image(disk, tmp_path / "b.vhdx", format="vhdx", kind="dynamic")
        convert_image(disk, tmp_path / "b.vhd", format="vhd", kind="dynamic")
    assert (tmp_path / "b.vhdx").stat().st_size == 5 * MIB
    assert (tmp_path / "b.vhd").stat().st_size < 3 * MIB


def test_a_fixed_vhdx_lies_in_order(tmp_path):
    make_vhdx(tmp_path / "a.vhdx", virtual_size=8 * MIB, blocks={5: Block(data=b"5"), 2: Block(data=b"2")}, order=[5])
    with open_disk(tmp_path / "a.vhdx") as disk:
        convert_image(disk, tmp_path / "b.vhdx", format="vhdx", kind="fixed")
    with open_disk(tmp_path / "b.vhdx") as disk:
        [extent] = disk.extents()
        assert (extent.kind, extent.file_offset) == ("data", 4 * MIB)
        assert disk.read_at(5 * MIB, 1) == b"5"


def test_a_pending_log_is_written_as_replayed(tmp_path):
    path = tmp_path / "a.vhdx"
    layout = write_vhdx(
        path, virtual_size=4 * MIB, block_size=MIB, identity=IDENTITY, blocks={0: Block(data=b"0" * MIB)}
    )
    entry = (0).to_bytes(8, "little") + (layout.blocks[0] | 6).to_bytes(8, "little")
    write = DataWrite(layout.bat_offset, entry.ljust(4096, b"\0"))
    path.unlink()
    write_vhdx(
        path, virtual_size=4 * MIB, block_size=MIB, blocks={0: Block(data=b"0" * MIB)},
        identity=Identity(UUID(int=1), UUID(int=2), UUID(int=3)), log=PendingLog(LOG_GUID, [PendingEntry([write])]),
    )  # fmt: skip
    with open_disk(path) as disk:
        assert disk.info.log == "replayed"
        convert_image(disk, tmp_path / "b.vhdx", format="vhdx", kind="dynamic")
    with open_disk(tmp_path / "b.vhdx") as disk:
        assert disk.info.log == "clean"
        assert disk.read_at(0, 4 * MIB) == bytes(MIB) + b"0" * MIB + bytes(2 * MIB)


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="holes can't be asked for")
def test_holes_of_a_raw_image_are_not_read(tmp_path):
    path = tmp_path / "a.img"
    with path.open("wb") as file:
        file.truncate(64 << 30)
        file.seek(40 << 30)
        file.write(b"here")
    with open_disk(path) as disk:
        before = disk.bytes_read
        convert_image(disk, tmp_path / "b.vhdx", format="vhdx", kind="dynamic")
        assert disk.bytes_read - before < 4 * MIB
    with open_disk(tmp_path / "b.vhdx") as disk:
        assert disk.read_at(40 << 30, 5) == b"here\0"


@pytest.mark.parametrize(("form", "kind"), KINDS)
def test_memory_does_not_grow_with_the_disk(tmp_path, form, kind):
    path = tmp_path / "a.img"
    with path.open("wb") as file:
        for place in range(0, 96 * MIB, MIB):
            file.seek(place)
            file.write(b"data" * 50_000)
        file.truncate(96 * MIB)
    with open_disk(path) as disk, memory_peak() as peak:
        convert_image(disk, tmp_path / f"out.{form}", format=form, kind=kind)
    assert peak() < 4 * MIB


@pytest.mark.parametrize("place", [0, 5, 4096, 65536, 65536 * 3 - 1, MIB - 1])
def test_stored_parts_cover_all_that_is_not_zero(place):
    data = bytearray(MIB)
    data[place] = 1
    [(start, stop)] = list(stored_parts(memoryview(data)))
    assert (start, stop) == (place // 65536 * 65536, place // 65536 * 65536 + 65536)
    for skew in (0, 1, 512, 65535):
        parts = list(stored_parts(memoryview(data), skew))
        assert len(parts) == 1
        assert parts[0][0] <= place < parts[0][1]
        assert (parts[0][0] + skew) % 65536 == 0 or parts[0][0] == 0
    assert list(stored_parts(memoryview(bytes(MIB)))) == []
    assert list(stored_parts(memoryview(b"x" * 200_000), 7)) == [(0, 200_000)]
