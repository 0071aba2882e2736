from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhd_files import MIB, open_disk
from tests.fuzz import vhdx_images
from tests.fuzz.vhdx_images import FULL, Layer
from vhdtool.disk.shared_blocks import SharedBlocks


@pytest.mark.parametrize("suffix", ["vhdx", "vhd"])
def test_what_is_shared_is_the_same_and_children_share_with_their_parents(tmp_path: Path, suffix: str) -> None:
    (vhdx_chain if suffix == "vhdx" else vhd_chain)(tmp_path)
    with open_disk(tmp_path / f"layer1.{suffix}") as parent, open_disk(tmp_path / f"layer3.{suffix}") as child:
        shared = SharedBlocks(parent, child)
        assert shared.related
        one, other = parent.read_at(0, parent.size), child.read_at(0, child.size)
        unsure = bytearray(child.size)
        place = 0
        for offset, length in shared.may_differ(0, child.size):
            assert offset > place or not place  # in order, apart
            unsure[offset : offset + length] = b"\1" * length
            place = offset + length
        differing = {at // 512 for at in range(0, len(one), 512) if one[at : at + 512] != other[at : at + 512]}
        assert differing
        assert all(unsure[sector * 512] for sector in differing)
        assert 0 < unsure.count(1) < len(unsure)  # it knows something of both kinds
        chance = random.Random(7)
        for _ in range(50):
            start = chance.randrange(child.size // 512) * 512
            length = min(chance.randrange(1, 5000) * 512, child.size - start)
            assert sum(size for _, size in shared.may_differ(start, length)) == unsure[start : start + length].count(1)
            assert shared.is_shared(start, length) == (1 not in unsure[start : start + length])


def test_strangers_share_nothing(tmp_path: Path) -> None:
    for name in ("a.vhdx", "b.vhdx"):
        vhdx_images.write_vhdx(tmp_path / name, Layer(1, MIB, {0: FULL}))
    with open_disk(tmp_path / "a.vhdx") as one, open_disk(tmp_path / "b.vhdx") as other:
        shared = SharedBlocks(one, other)
        assert not shared.related
        assert list(shared.may_differ(0, MIB)) == [(0, MIB)]
        assert list(shared.may_differ(0, 0)) == []


def test_a_disk_is_the_same_as_itself_and_what_lies_behind_its_end_is_not(tmp_path: Path) -> None:
    vhdx_images.write_vhdx(tmp_path / "a.vhdx", Layer(1, 2 * MIB, {0: FULL}))
    with open_disk(tmp_path / "a.vhdx") as one, open_disk(tmp_path / "a.vhdx") as other:
        shared = SharedBlocks(one, other)
        assert shared.is_shared(0, one.size)
        assert list(shared.may_differ(MIB, 2 * MIB)) == [(2 * MIB, MIB)]
