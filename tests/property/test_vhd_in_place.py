"""Any change to any dynamic VHD in place: the disk is as it should be, and the file as large as it need be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.disk.in_place import commit
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.create_vhd import Block, Parent, write_vhd
from vhdtool.disk.recover_vhd import recover_vhd
from vhdtool.disk.vhd_format import EPOCH

SECTORS = 300


@st.composite
def images(draw):
    block_size = draw(st.sampled_from([512, 4096, 16384, 65536]))
    count = -(-SECTORS * 512 // block_size)
    numbers = draw(st.lists(st.integers(0, count - 1), unique=True, max_size=12))
    fill = st.binary(min_size=1, max_size=block_size)
    bitmap = st.one_of(st.none(), st.binary(min_size=block_size // 4096 or 1, max_size=block_size // 4096 or 1))
    differencing = draw(st.booleans())
    blocks = {number: Block(draw(fill), draw(bitmap) if differencing else None) for number in numbers}
    lower = {number: Block(draw(fill)) for number in draw(st.sets(st.integers(0, count - 1), max_size=5))}
    return block_size, blocks, numbers, lower if differencing else None


CHANGES = st.dictionaries(st.integers(0, SECTORS * 512 - 3000), st.binary(min_size=1, max_size=3000), max_size=6)


@given(images(), st.lists(CHANGES, min_size=1, max_size=3), st.booleans())
def test_any_change_to_any_image(image, rounds, fold):
    block_size, blocks, order, lower = image
    with tempfile.TemporaryDirectory() as folder:
        path, parent = Path(folder) / "disk.vhd", None
        if lower is not None:
            write_vhd(
                Path(folder) / "base.vhd", virtual_size=SECTORS * 512, unique_id=UUID(int=1), timestamp=EPOCH,
                block_size=block_size, blocks=lower,
            )  # fmt: skip
            parent = Parent(UUID(int=1), name="base.vhd", relative=".\\base.vhd")
        write_vhd(
            path, virtual_size=SECTORS * 512, unique_id=UUID(int=2), timestamp=EPOCH, block_size=block_size,
            blocks=blocks, order=order, parent=parent, kind="dynamic" if parent is None else "differencing",
        )  # fmt: skip
        for changes in rounds:
            size, stored = path.stat().st_size, stored_blocks(path)
            commit(VhdInPlaceCommit, path, changes, fold=fold)
            new = stored_blocks(path) - stored
            if fold:
                assert path.stat().st_size == size + len(new) * (block_size + 512 * -(-block_size // 512 // 4096))
            with open_disk(path) as disk:
                assert disk.info.problems == ()
                found = {finding.code for finding in audit_disk(disk).findings if finding.path == str(path)}
            # without any block the rest of the table's last sector is unused
            assert found <= {"vhd-geometry-differs", *([] if stored_blocks(path) else ["vhd-tail-waste"])}
            assert recover_vhd(str(path)) is None


def stored_blocks(path: Path) -> set[int]:
    with open_disk(path) as disk:
        return {number for number, _ in disk.layers[0].bat.entries()}
