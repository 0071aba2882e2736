from __future__ import annotations

import os

import pytest

from tests.disk.commits import content_of, folder_state, whole
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import MIB, make
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.create_image import create_image
from vhdtool.errors import InputError, RefusedError, UsageError, VhdtoolError

KINDS = [("vhdx", "fixed"), ("vhdx", "dynamic"), ("vhd", "fixed"), ("vhd", "dynamic"), ("raw", "fixed")]


@pytest.mark.parametrize(("form", "kind"), KINDS)
@pytest.mark.parametrize("size", [40 * MIB, 33 * MIB + 512])
def test_empty_images(tmp_path, form, kind, size):
    path = tmp_path / f"new.{form}"
    written = create_image(path, format=form, kind=kind, virtual_size=size)
    with open_disk(path) as disk:
        assert (disk.info.format, disk.info.type, disk.size) == (form, kind, size)
        assert whole(disk) == bytes(size)
        assert not disk.info.problems
        assert [f.code for f in audit_disk(disk).findings if f.severity != "info"] == []
    assert (written.path, written.file_size) == (str(path), path.stat().st_size)
    assert str(path) in written.undo
    if hasattr(os.stat_result, "st_blocks"):
        assert path.stat().st_blocks * 512 < 2 * MIB


@pytest.mark.parametrize("size", [64 << 40, 127 << 30])
def test_large_images_are_made_at_once(tmp_path, size):
    written = create_image(tmp_path / "a.vhdx", format="vhdx", kind="dynamic", virtual_size=size)
    assert written.bytes_written < MIB
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert disk.size == size
        assert disk.read_at(size - 512, 512) == bytes(512)


def test_sectors_and_blocks(tmp_path):
    path = tmp_path / "a.vhdx"
    create_image(path, format="vhdx", kind="dynamic", virtual_size=8 * MIB, block_size=MIB, logical_sector_size=4096)
    with open_disk(path) as disk:
        assert (disk.logical_sector_size, disk.info.physical_sector_size, disk.info.block_size) == (4096, 4096, MIB)
    create_image(tmp_path / "a.vhd", format="vhd", kind="dynamic", virtual_size=8 * MIB, block_size=MIB // 2)
    with open_disk(tmp_path / "a.vhd") as disk:
        assert disk.info.block_size == MIB // 2


@pytest.mark.parametrize(("chain", "suffix"), [(vhdx_chain, "vhdx"), (vhd_chain, "vhd")])
def test_empty_children(tmp_path, chain, suffix):
    chain(tmp_path)
    parent, child = tmp_path / f"layer3.{suffix}", tmp_path / f"child.{suffix}"
    written = create_image(child, format=suffix, kind="differencing", parent=parent)
    assert content_of(child) == content_of(parent)
    assert written.blocks == 0
    assert bool(written.notes) == (suffix == "vhd")
    with open_disk(child) as disk:
        assert disk.info.type == "differencing"
        assert disk.info.block_size == 2 * MIB


def test_a_child_with_a_windows_path(tmp_path):
    vhdx_chain(tmp_path, 1)
    child = tmp_path / "child.vhdx"
    create_image(
        child, format="vhdx", kind="differencing", parent=tmp_path / "layer1.vhdx", virtual_size=4 * MIB,
        logical_sector_size=512, block_size=MIB, parent_windows_path="D:\\vm\\layer1.vhdx",
    )  # fmt: skip
    with open_disk(child) as disk:
        assert disk.layers[0].parent_entries["absolute_win32_path"] == "\\\\?\\D:\\vm\\layer1.vhdx"
        assert disk.info.block_size == MIB


REFUSED = [
    ({"format": "vhdx", "kind": "dynamic"}, "create-contradicts"),
    ({"format": "vhdx", "kind": "dynamic", "virtual_size": MIB, "parent": "layer1.vhdx"}, "create-contradicts"),
    ({"format": "vhdx", "kind": "fixed", "virtual_size": MIB, "parent_windows_path": "D:\\a"}, "create-contradicts"),
    ({"format": "vhd", "kind": "fixed", "virtual_size": MIB, "logical_sector_size": 4096}, "create-contradicts"),
    ({"format": "raw", "kind": "fixed", "virtual_size": MIB, "logical_sector_size": 4096}, "create-contradicts"),
    ({"format": "raw", "kind": "dynamic", "virtual_size": MIB}, "raw-is-flat"),
    ({"format": "raw", "kind": "fixed", "virtual_size": MIB + 1}, "raw-is-flat"),
    ({"format": "raw", "kind": "fixed", "virtual_size": 0}, "raw-is-flat"),
    ({"format": "vhdx", "kind": "dynamic", "virtual_size": 0}, "vhdx-create-invalid"),
    ({"format": "vhdx", "kind": "dynamic", "virtual_size": (64 << 40) + 512}, "vhdx-create-invalid"),
    (
        {"format": "vhdx", "kind": "dynamic", "virtual_size": MIB + 512, "logical_sector_size": 4096},
        "vhdx-create-invalid",
    ),
    ({"format": "vhd", "kind": "dynamic", "virtual_size": 2041 << 30}, "vhd-create-invalid"),
    ({"format": "vhd", "kind": "fixed", "virtual_size": 1000}, "vhd-create-invalid"),
    ({"format": "vhdx", "kind": "differencing"}, "create-contradicts"),
    ({"format": "vhdx", "kind": "differencing", "parent": "layer1.vhdx", "virtual_size": MIB}, "create-contradicts"),
    (
        {"format": "vhdx", "kind": "differencing", "parent": "layer1.vhdx", "logical_sector_size": 4096},
        "create-contradicts",
    ),
    ({"format": "vhd", "kind": "differencing", "parent": "layer1.vhdx"}, "output-format"),
    ({"format": "vhdx", "kind": "differencing", "parent": "raw.img"}, "raw-has-no-children"),
    ({"format": "vhdx", "kind": "differencing", "parent": "no.vhdx"}, "cannot-open"),
]


@pytest.mark.parametrize(("wanted", "code"), REFUSED)
def test_contradictions(tmp_path, wanted, code):
    vhdx_chain(tmp_path, 1)
    (tmp_path / "raw.img").write_bytes(bytes(MIB))
    before = folder_state(tmp_path)
    settings = dict(wanted)
    if "parent" in settings:
        settings["parent"] = tmp_path / settings["parent"]
    with pytest.raises(VhdtoolError) as caught:
        create_image(tmp_path / f"new.{wanted['format']}", **settings)
    assert isinstance(caught.value, UsageError | InputError)
    assert caught.value.code == code
    assert folder_state(tmp_path) == before


def test_nothing_is_overwritten(tmp_path):
    make(tmp_path / "there.vhdx")
    before = folder_state(tmp_path)
    with pytest.raises(RefusedError) as caught:
        create_image(tmp_path / "there.vhdx", format="vhdx", kind="dynamic", virtual_size=MIB)
    assert caught.value.code == "output-exists"
    with pytest.raises(RefusedError) as caught:
        create_image(tmp_path / "there.vhdx", format="vhdx", kind="differencing", parent=tmp_path / "there.vhdx")
    assert caught.value.code == "output-exists"
    assert folder_state(tmp_path) == before


def test_images_of_the_same_wish_differ_in_identity(tmp_path):
    for form in ("vhdx", "vhd"):
        seen = set()
        for number in range(2):
            create_image(tmp_path / f"{number}.{form}", format=form, kind="dynamic", virtual_size=MIB)
            with open_disk(tmp_path / f"{number}.{form}") as disk:
                seen.add(disk.layers[0].info.identity)
        assert len(seen) == 2
