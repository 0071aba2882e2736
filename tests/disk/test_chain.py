"""Files put together: reading through a chain, finding parents, and every way in which that goes wrong."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.disk import vhd_files as files
from tests.disk.vhd_files import KIB, MIB, WHOLE, codes, open_disk
from tests.fuzz import vhd_images, vhdx_images
from tests.fuzz.vhd_images import DIFFERENCING, FIXED, VhdLayer
from tests.fuzz.vhdx_images import FULL, NOT_PRESENT, PARTIAL, UNMAPPED, ZERO, Layer
from vhdtool.disk.chain import DEPTH_LIMIT, ChainExtent
from vhdtool.disk.create_vhdx import Identity, write_vhdx
from vhdtool.disk.device import FileDevice
from vhdtool.errors import DamagedError, InputError

HALF = frozenset(range(100, 1000))


def vhdx_chain(folder: Path, depth: int = 3) -> list[Layer]:
    states = [
        {0: FULL, 1: FULL, 2: FULL, 3: FULL},
        {0: PARTIAL, 1: ZERO, 3: NOT_PRESENT},
        {0: PARTIAL, 2: UNMAPPED},
    ]
    layers: list[Layer] = []
    for number, state in enumerate(states[:depth], 1):
        parent = layers[-1] if layers else None
        present = {0: frozenset(range(0, 2048, number))} if parent else {}
        path = f"layer{number - 1}.vhdx" if parent else ""
        layers.append(Layer(number, 4 * MIB, state, present, parent=parent, parent_path=path))
        vhdx_images.write_vhdx(folder / f"layer{number}.vhdx", layers[-1])
    return layers


def vhd_chain(folder: Path, depth: int = 3) -> list[VhdLayer]:
    blocks = [{0: WHOLE, 1: WHOLE, 2: WHOLE}, {0: HALF, 3: WHOLE}, {0: frozenset({0, 99, 500}), 2: HALF}]
    layers: list[VhdLayer] = []
    for number, block in enumerate(blocks[:depth], 1):
        parent = layers[-1] if layers else None
        layer = VhdLayer(number, 8 * MIB, block, parent=parent)
        if parent:
            layer = replace(layer, kind=DIFFERENCING, parent_path=f"layer{number - 1}.vhd")
        layers.append(layer)
        vhd_images.write_vhd(folder / f"layer{number}.vhd", layer)
    return layers


def fails(path: Path, parent: Path | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        open_disk(path, parent=parent)
    return caught.value


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0  # noqa: PTH208


def test_three_vhdx_files(tmp_path):
    top = vhdx_chain(tmp_path)[-1]
    with open_disk(tmp_path / "layer3.vhdx") as disk:
        assert disk.info.parents == (str(tmp_path / "layer2.vhdx"), str(tmp_path / "layer1.vhdx"))
        assert (disk.info.format, disk.info.type, disk.info.log) == ("vhdx", "differencing", "clean")
        assert disk.read_at(0, disk.size) == vhdx_images.read_model(top, 0, top.virtual_size)
        kinds = [(extent.kind, extent.layer) for extent in disk.extents(2 * MIB)]
        assert kinds == [("zero", 0), ("data", 2)]


def test_three_vhd_files(tmp_path):
    top = vhd_chain(tmp_path)[-1]
    with open_disk(tmp_path / "layer3.vhd") as disk:
        assert len(disk.layers) == len(disk.files) == 3
        assert disk.read_at(0, disk.size) == vhd_images.read_model(top, 0, top.virtual_size)
        before = disk.bytes_read
        disk.read_at(8 * MIB - 512, 512)
        assert before < disk.bytes_read <= before + 2 * KIB


def test_reads_into_a_buffer_of_any_size(tmp_path):
    top = vhd_chain(tmp_path)[-1]
    source = random.Random(1)
    with open_disk(tmp_path / "layer3.vhd") as disk:
        buffer = bytearray(9000)
        for _ in range(200):
            offset, length = source.randrange(8 * MIB + 600), source.randrange(9000)
            expected = vhd_images.read_model(top, offset, length)
            buffer[:] = b"\xee" * 9000
            assert disk.read_into(offset, memoryview(buffer)[:length]) == len(expected)
            assert buffer[: len(expected)] == expected
            assert set(buffer[len(expected) :]) <= {0xEE}
        with pytest.raises(ValueError, match="negative"):
            disk.read_into(-1, memoryview(buffer))
        with pytest.raises(ValueError, match="negative"):
            disk.read_at(0, -1)


def test_extents_say_where_the_bytes_are(tmp_path):
    top = vhd_chain(tmp_path)[-1]
    whole = vhd_images.read_model(top, 0, top.virtual_size)
    with open_disk(tmp_path / "layer3.vhd") as disk:
        position = 0
        last: ChainExtent | None = None
        for extent in disk.extents():
            assert extent.offset == position
            position += extent.length
            if extent.kind == "data":
                assert extent.layer is not None
                assert extent.file_offset is not None
                stored = disk.files[extent.layer].read_at(extent.file_offset, extent.length)
                assert stored == whole[extent.offset : position]
            else:
                assert not any(whole[extent.offset : position])
            if last is not None and last.kind == extent.kind and last.layer == extent.layer:
                assert (last.file_offset or 0) + last.length != extent.file_offset
            last = extent
        assert position == disk.size
        part = list(disk.extents(2 * MIB + 100, 1000))
        assert sum(extent.length for extent in part) == 1000
        assert part[0].offset == 2 * MIB + 100
        assert list(disk.extents(disk.size)) == list(disk.extents(0, 0)) == []


@pytest.mark.parametrize("sizes", [(2, 4, 6), (6, 4, 2), (6, 2, 4)])
def test_layers_of_different_sizes(tmp_path, sizes):
    layers: list[Layer] = []
    for number, size in enumerate(sizes, 1):
        parent = layers[-1] if layers else None
        path = f"layer{number - 1}.vhdx" if parent else ""
        states = {0: FULL} if parent else dict.fromkeys(range(size), FULL)
        layers.append(Layer(number, size * MIB, states, parent=parent, parent_path=path))
        vhdx_images.write_vhdx(tmp_path / f"layer{number}.vhdx", layers[-1])
    with open_disk(tmp_path / "layer3.vhdx") as disk:
        assert disk.read_at(0, disk.size) == vhdx_images.read_model(layers[-1], 0, sizes[-1] * MIB)
        assert sum(extent.length for extent in disk.extents()) == disk.size
        holes = sum(extent.length for extent in disk.extents() if extent.kind == "hole")
        assert holes == max(0, sizes[2] - min(sizes[:2])) * MIB


@pytest.mark.parametrize("make", [vhd_chain, vhdx_chain])
def test_a_missing_parent_is_named_with_all_that_was_tried(tmp_path, make):
    make(tmp_path)
    suffix = ".vhd" if make is vhd_chain else ".vhdx"
    (tmp_path / f"layer1{suffix}").unlink()
    before = descriptors()
    error = fails(tmp_path / f"layer3{suffix}")
    assert error.code == "parent-missing"
    assert error.path == str(tmp_path / f"layer2{suffix}")
    assert f"layer1{suffix}" in error.message
    assert str(tmp_path / f"layer1{suffix}") in (error.found or "")
    assert "--parent" in (error.hint or "")
    assert descriptors() == before


def test_the_parent_that_the_caller_names_closes_the_first_missing_link(tmp_path):
    top = vhd_chain(tmp_path)[-1]
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "layer1.vhd").rename(tmp_path / "elsewhere/renamed.vhd")
    with open_disk(tmp_path / "layer3.vhd", parent=moved) as disk:
        assert disk.info.parents == (str(tmp_path / "layer2.vhd"), str(moved))
        assert disk.read_at(0, disk.size) == vhd_images.read_model(top, 0, top.virtual_size)
    (tmp_path / "layer2.vhd").unlink()
    error = fails(tmp_path / "layer3.vhd", moved)
    assert error.code == "parent-mismatch"


def test_a_named_parent_that_is_none(tmp_path):
    vhd_chain(tmp_path, 2)
    (tmp_path / "layer1.vhd").unlink()
    assert fails(tmp_path / "layer2.vhd", tmp_path / "nothing.vhd").code == "cannot-open"
    assert fails(tmp_path / "layer2.vhd", tmp_path).code in {"is-a-directory", "cannot-open"}
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(8 * MIB))
    assert fails(tmp_path / "layer2.vhd", raw).code == "parent-mismatch"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert fails(tmp_path / "layer2.vhd", tmp_path / "pipe").code == "not-a-disk"


@pytest.mark.parametrize(("make", "suffix"), [(vhd_chain, "vhd"), (vhdx_chain, "vhdx")])
def test_another_identity_is_no_parent(tmp_path, make, suffix):
    layers = make(tmp_path, 2)
    other = replace(layers[0], number=77)
    writer = vhd_images.write_vhd if suffix == "vhd" else vhdx_images.write_vhdx
    identity = other.unique_id if isinstance(other, VhdLayer) else other.data_guid
    (tmp_path / f"layer1.{suffix}").unlink()
    writer(tmp_path / f"layer1.{suffix}", other)
    before = descriptors()
    error = fails(tmp_path / f"layer2.{suffix}")
    assert isinstance(error, DamagedError)
    assert (error.code, error.found) == ("parent-mismatch", str(identity))
    assert error.expected in {str(getattr(layers[0], name, "")) for name in ("unique_id", "data_guid")}
    assert descriptors() == before


def test_the_search_goes_on_past_a_file_that_is_not_the_parent(tmp_path):
    top = vhd_chain(tmp_path, 2)[-1]
    (tmp_path / "machines").mkdir()
    (tmp_path / "layer1.vhd").rename(tmp_path / "machines/layer1.vhd")  # where the absolute locator leads
    vhd_images.write_vhd(tmp_path / "layer1.vhd", VhdLayer(9, 8 * MIB))
    with open_disk(tmp_path / "layer2.vhd") as disk:
        assert disk.info.parents == (str(tmp_path / "machines/layer1.vhd"),)
        assert disk.read_at(0, disk.size) == vhd_images.read_model(top, 0, top.virtual_size)


def test_a_damaged_candidate_is_told(tmp_path):
    vhd_chain(tmp_path, 2)
    data = (tmp_path / "layer1.vhd").read_bytes()
    (tmp_path / "layer1.vhd").write_bytes(data[:512] + b"broken!!" + data[520:])
    assert fails(tmp_path / "layer2.vhd").code == "vhd-header-damaged"


@pytest.mark.parametrize("right", ["parent_linkage", "parent_linkage2", None])
def test_either_linkage_will_do(tmp_path, right):
    base = Layer(1, 4 * MIB, {0: FULL})
    vhdx_images.write_vhdx(tmp_path / "base.vhdx", base)
    linkage = dict.fromkeys(("parent_linkage", "parent_linkage2"), f"{{{UUID(int=5)}}}")
    if right:
        linkage[right] = f"{{{base.data_guid}}}".upper()
    identity = Identity(UUID(int=1), UUID(int=2), UUID(int=3))
    write_vhdx(
        tmp_path / "child.vhdx", virtual_size=4 * MIB, block_size=MIB, identity=identity, kind="differencing",
        parent={**linkage, "relative_path": ".\\base.vhdx"},
    )  # fmt: skip
    if right is None:
        error = fails(tmp_path / "child.vhdx")
        assert (error.code, error.found) == ("parent-mismatch", str(base.data_guid))
        return
    with open_disk(tmp_path / "child.vhdx") as disk:
        assert disk.read_at(0, MIB) == vhdx_images.read_model(base, 0, MIB)


def test_a_vhdx_has_no_vhd_parent(tmp_path):
    layers = vhdx_chain(tmp_path, 2)
    (tmp_path / "layer1.vhdx").unlink()
    vhd = VhdLayer(1, 4 * MIB)
    vhd_images.write_vhd(tmp_path / "layer1.vhdx", vhd)
    files.set_footer(tmp_path / "layer1.vhdx", files.UNIQUE_ID, layers[0].data_guid.bytes)
    error = fails(tmp_path / "layer2.vhdx")
    assert (error.code, error.expected, error.found) == ("parent-mismatch", "vhdx", "vhd")


def test_sector_sizes_must_agree(tmp_path):
    base = Layer(1, 4 * MIB, {0: FULL}, sector_size=4096)
    vhdx_images.write_vhdx(tmp_path / "layer1.vhdx", base)
    child = Layer(2, 4 * MIB, {}, parent=base, parent_path="layer1.vhdx")
    vhdx_images.write_vhdx(tmp_path / "layer2.vhdx", child)
    error = fails(tmp_path / "layer2.vhdx")
    assert (error.code, error.expected, error.found) == ("parent-mismatch", "512", "4096")


def test_a_file_that_is_its_own_parent(tmp_path):
    path = tmp_path / "a.vhd"
    me = VhdLayer(1, 8 * MIB)
    vhd_images.write_vhd(path, replace(me, kind=DIFFERENCING, parent=me, parent_path="a.vhd"))
    error = fails(path)
    assert isinstance(error, DamagedError)
    assert error.code == "chain-loop"


def test_two_files_that_are_each_others_parents(tmp_path):
    first, second = VhdLayer(1, 8 * MIB), VhdLayer(2, 8 * MIB)
    for layer, parent in ((first, second), (second, first)):
        path = f"layer{parent.number}.vhd"
        child = replace(layer, kind=DIFFERENCING, parent=parent, parent_path=path)
        vhd_images.write_vhd(tmp_path / f"layer{layer.number}.vhd", child)
    assert fails(tmp_path / "layer1.vhd").code == "chain-loop"
    (tmp_path / "link").mkdir()
    (tmp_path / "link/layer1.vhd").symlink_to(tmp_path / "layer1.vhd")
    assert fails(tmp_path / "link/layer1.vhd").code == "chain-loop"


def test_a_child_that_has_the_name_of_its_parent(tmp_path):
    """In its own folder the search finds the child itself: that is no loop, and no wrong parent either."""
    base = VhdLayer(1, 8 * MIB, {0: WHOLE})
    child = VhdLayer(2, 8 * MIB, {}, kind=DIFFERENCING, parent=base, parent_path="base.vhd")
    vhd_images.write_vhd(tmp_path / "base.vhd", child)
    error = fails(tmp_path / "base.vhd")
    assert error.code == "parent-missing"
    assert f"at {tmp_path / 'base.vhd'} a file of the chain itself" in (error.found or "")
    (tmp_path / "machines").mkdir()
    vhd_images.write_vhd(tmp_path / "machines/base.vhd", base)
    with open_disk(tmp_path / "base.vhd") as disk:
        assert disk.info.parents == (str(tmp_path / "machines/base.vhd"),)


def test_a_chain_has_an_end(tmp_path):
    parent = VhdLayer(1, MIB, {}, block_size=512 * KIB, kind=FIXED)
    vhd_images.write_vhd(tmp_path / "layer1.vhd", parent)
    for number in range(2, DEPTH_LIMIT + 2):
        path = f"layer{number - 1}.vhd"
        child = VhdLayer(number, MIB, {}, 512 * KIB, DIFFERENCING, VhdLayer(number - 1, MIB), path)
        vhd_images.write_vhd(tmp_path / f"layer{number}.vhd", child)
    with open_disk(tmp_path / f"layer{DEPTH_LIMIT}.vhd") as disk:
        assert disk.read_at(0, MIB) == vhd_images.read_model(parent, 0, MIB)
        assert [extent.layer for extent in disk.extents()] == [DEPTH_LIMIT - 1]
    before = descriptors()
    error = fails(tmp_path / f"layer{DEPTH_LIMIT + 1}.vhd")
    assert error.code == "chain-too-deep"
    assert error.hint
    assert descriptors() == before


@pytest.mark.parametrize(("shift", "told"), [(0, False), (1, False), (3600, True)])
def test_a_parent_of_another_time_is_told(tmp_path, shift, told):
    vhd_chain(tmp_path, 2)
    moment = 946_684_800 + 700_000_000  # the epoch of the format, as Unix time, and some years
    os.utime(tmp_path / "layer1.vhd", (moment + shift, moment + shift))
    files.set_header(tmp_path / "layer2.vhd", files.PARENT_TIME, struct.pack(">I", 700_000_000))
    with open_disk(tmp_path / "layer2.vhd") as disk:
        assert codes(disk) == (["vhd-parent-timestamp"] if told else [])


def test_problems_of_all_files_are_told(tmp_path):
    vhd_chain(tmp_path)
    files.overwrite(tmp_path / "layer1.vhd", 20, b"\xff")
    with open_disk(tmp_path / "layer3.vhd") as disk:
        assert [(problem.code, problem.path) for problem in disk.info.problems] == [
            ("vhd-footer-copy-damaged", str(tmp_path / "layer1.vhd"))
        ]


def test_closing_twice(tmp_path):
    vhd_chain(tmp_path)
    before = descriptors()
    disk = open_disk(tmp_path / "layer3.vhd")
    disk.close()
    disk.close()
    assert descriptors() == before


def test_nothing_is_written(tmp_path, monkeypatch):
    vhd_chain(tmp_path)
    modes: list[int] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: modes.append(flags) or real(path, flags, *rest))
    with open_disk(tmp_path / "layer3.vhd") as disk:
        disk.read_at(0, disk.size)
    assert len(modes) == 3
    assert all(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) == 0 for flags in modes)
    assert isinstance(disk.files[0], FileDevice)
