"""VHDs changed in place, before the eyes of everybody: images of ours, of qemu-img, and copies of real ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.vhd_readers import by_7zip, by_dissect, by_pyvhdi, by_qemu
from tests.data_files import data_file
from tests.disk.in_place import commit
from tests.tools import require_tool, run
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit_copy import CopyInPlaceCommit
from vhdtool.disk.commit_journal import JournalCommit
from vhdtool.disk.commit_vhd import VhdInPlaceCommit
from vhdtool.disk.create_vhd import Block, Parent, write_vhd
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.errors import RefusedError

pytestmark = pytest.mark.oracle
KIB, MIB = 1 << 10, 1 << 20

DYNAMIC = [
    "vhd/SecurityRonin__vhdx-core/ext2.vhd.xz",
    "vhd/fox-it__dissect.hypervisor/dynamic.vhd.gz",
    "vhd/rubiojr__go-vhd/qemu.vhd",
    "vhd/rubiojr__go-vhd/win8.vhd",
    "vhd/rubiojr__go-vhd/xapi.vhd",
]
FIXED = "vhd/fox-it__dissect.hypervisor/fixed.vhd.gz"


def copy_of(name: str, folder: Path) -> Path:
    path = folder / "copy.vhd"
    shutil.copyfile(data_file(name), path)
    path.chmod(0o644)
    return path


def some_changes(path: Path, seed: int) -> dict[int, bytes]:
    source = random.Random(seed)
    with open_disk(path) as disk:
        size = disk.size
    lengths = [source.randrange(1, 5000) for _ in range(20)]
    return {source.randrange(0, size - length): source.randbytes(length) for length in lengths}


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read_at(0, disk.size)


def all_agree(path: Path, folder: Path) -> None:
    ours = content(path)
    assert by_qemu(folder)(path) == ours
    assert by_7zip(folder)(path) == ours
    assert by_pyvhdi()(path) == ours
    assert by_dissect(path) == ours


@pytest.mark.parametrize("name", DYNAMIC)
def test_real_dynamic_images(name, tmp_path):
    path = copy_of(name, tmp_path)
    with open_disk(path) as disk:
        before = {finding.code for finding in audit_disk(disk).findings}
    for seed in range(3):
        commit(VhdInPlaceCommit, path, some_changes(path, seed))
        all_agree(path, tmp_path)
    with open_disk(path) as disk:
        assert {finding.code for finding in audit_disk(disk).findings} <= before


@pytest.mark.parametrize("steps", [CopyInPlaceCommit, JournalCommit])
def test_a_real_fixed_image(steps, tmp_path):
    path = copy_of(FIXED, tmp_path)
    for seed in range(2):
        commit(steps, path, some_changes(path, seed))
        all_agree(path, tmp_path)


def test_real_images_with_wrong_checksums_are_refused(tmp_path):
    path = copy_of("vhd/log2timeline__dfvfs/image.vhd.xz", tmp_path)
    before = path.read_bytes()
    with pytest.raises(RefusedError) as caught:
        commit(VhdInPlaceCommit, path, {0: b"x"})
    assert caught.value.code == "image-damaged"
    assert path.read_bytes() == before


def test_a_dynamic_image_of_qemu_is_still_written_to_by_it(tmp_path):
    """QEMU appends blocks after what it takes for the last one: ours are not written over."""
    tool = require_tool("qemu-img")
    path = tmp_path / "qemu.vhd"
    run(tool, "create", "-f", "vpc", "-o", "subformat=dynamic,force_size=on", str(path), "40M")
    commit(VhdInPlaceCommit, path, {5 * MIB: b"ours" * 5000, 0: b"boot" * 128})
    run(require_tool("qemu-io"), "-f", "vpc", "-c", "write -P 0x51 20M 3M", "-c", "write -P 0x52 5M 4k", str(path))
    all_agree(path, tmp_path)
    commit(VhdInPlaceCommit, path, {20 * MIB + 100: b"again" * 3000, 30 * MIB: b"new" * 100})
    all_agree(path, tmp_path)
    data = content(path)
    assert data[5 * MIB : 5 * MIB + 5] == b"RRRRR"
    assert data[20 * MIB : 20 * MIB + 3] == b"QQQ"


def test_a_child_as_7zip_and_libvhdi_read_it(tmp_path):
    """Partly written blocks, of which libvhdi misreads some, are whole once they were touched."""
    source = random.Random(4)
    lower = {number: Block(source.randbytes(2 * MIB)) for number in range(3)}
    write_vhd(tmp_path / "base.vhd", virtual_size=9 * MIB, unique_id=UUID(int=1), timestamp=EPOCH, blocks=lower)
    path = tmp_path / "child.vhd"
    write_vhd(
        path,
        virtual_size=9 * MIB,
        unique_id=UUID(int=2),
        timestamp=EPOCH,
        kind="differencing",
        blocks={0: Block(source.randbytes(2 * MIB), source.randbytes(512)), 3: Block(b"x" * MIB)},
        parent=Parent(UUID(int=1), name="base.vhd", relative=".\\base.vhd"),
    )
    commit(VhdInPlaceCommit, path, {0: b"touch", 3 * MIB: b"a block of the parent" * 99, 9 * MIB - 5: b"end"})
    ours = content(path)
    assert by_7zip(tmp_path)(path) == ours
    assert by_pyvhdi("base.vhd")(path) == ours
