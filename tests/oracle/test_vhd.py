"""VHDs read by others: real files, files of qemu-img, and files of ours before the eyes of everybody."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.data_files import data_file
from tests.disk.vhdx_files import pattern
from tests.tools import require_tool, run
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.create_vhd import Block, Parent, write_vhd
from vhdtool.disk.second_opinion import compare_with_pyvhdi

pytestmark = pytest.mark.oracle
KIB, MIB = 1 << 10, 1 << 20
TIME = datetime(2021, 5, 6, tzinfo=UTC)

# what the collection's files read as in QEMU 7.2, 7-Zip 26.02 and libvhdi 20260901 (one size each, all agree but
# where a comment says otherwise)
REAL_FILES = {
    "vhd/SecurityRonin__vhdx-core/ext2.vhd.xz": 4_212_736,
    "vhd/fox-it__dissect.hypervisor/dynamic.vhd.gz": 10 * MIB,
    "vhd/fox-it__dissect.hypervisor/fixed.vhd.gz": 10 * MIB,
    "vhd/log2timeline__dfvfs/image.vhd.xz": 104_448,
    "vhd/rubiojr__go-vhd/qemu.vhd": 41_953_280,
    "vhd/rubiojr__go-vhd/win8.vhd": 40 * MIB,
    "vhd/rubiojr__go-vhd/xapi.vhd": 40 * MIB,
}
BAD_CHECKSUMS = {"vhd/log2timeline__dfvfs/image.vhd.xz"}


def ours(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read_at(0, disk.size)


def by_qemu(path: Path, folder: Path) -> bytes:
    out = folder / "qemu.raw"
    run(require_tool("qemu-img"), "convert", "-f", "vpc", "-O", "raw", str(path), str(out))
    return out.read_bytes()


def by_7zip(path: Path, folder: Path) -> bytes:
    out = folder / "7z"
    run(require_tool("7zz"), "e", "-tVHD", f"-o{out}", "-y", str(path))
    [found] = out.iterdir()
    return found.read_bytes()


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_read_as_in_qemu(name, tmp_path):
    path = data_file(name)
    if name in BAD_CHECKSUMS:
        # QEMU refuses a footer with a wrong checksum: both of this file's were edited by hand, and its contents are
        # those that 7-Zip and libvhdi find
        tool = require_tool("qemu-img")
        ended = run(tool, "info", "-f", "vpc", str(path), check=False)
        assert ended.returncode != 0
        assert b"checksum" in ended.stderr
        return
    content = ours(path)
    assert len(content) == REAL_FILES[name]
    assert hashlib.sha256(content).digest() == hashlib.sha256(by_qemu(path, tmp_path)).digest()


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_read_as_in_7zip(name, tmp_path):
    path = data_file(name)
    if name in BAD_CHECKSUMS:
        # 7-Zip does not take a file without one footer of a right checksum for a VHD
        ended = run(require_tool("7zz"), "l", "-tVHD", str(path), check=False)
        assert ended.returncode != 0
        return
    assert ours(path) == by_7zip(path, tmp_path)


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_read_as_in_libvhdi(name):
    """libvhdi looks at no checksum of a footer, so it reads the edited file as well."""
    pyvhdi = pytest.importorskip("pyvhdi")
    path = data_file(name)
    reader = pyvhdi.file()
    reader.open(str(path))
    assert reader.get_media_size() == REAL_FILES[name]
    assert reader.read_buffer_at_offset(REAL_FILES[name], 0) == ours(path)
    reader.close()
    with open_disk(path) as disk:
        report = compare_with_pyvhdi(disk)
        assert report.agrees
        assert report.left_out == ()


def test_the_real_child_reads_as_in_libvhdi():
    """Hand-edited: wrong checksums in both footers and in the dynamic header; its parent beside it."""
    pyvhdi = pytest.importorskip("pyvhdi")
    parent_path = data_file("vhd/log2timeline__dfvfs/image.vhd.xz")
    path = data_file("vhd/log2timeline__dfvfs/image-differential.vhd.xz")
    child, parent = pyvhdi.file(), pyvhdi.file()
    child.open(str(path))
    parent.open(str(parent_path))
    child.set_parent(parent)
    with open_disk(path) as disk:
        assert disk.info.parents == (str(parent_path),)
        assert {problem.code for problem in disk.info.problems} == {"vhd-checksums-bad", "vhd-header-checksum-bad"}
        assert disk.read_at(0, disk.size) == child.read_buffer_at_offset(child.get_media_size(), 0)
        assert compare_with_pyvhdi(disk).agrees
    child.close()
    parent.close()


@pytest.fixture
def content(tmp_path):
    """A raw file of 13 MiB and a bit, with holes."""
    source = random.Random(11)
    path = tmp_path / "content.raw"
    with path.open("wb") as file:
        for place in range(0, 13 * MIB, 600 * KIB):
            file.seek(place)
            file.write(source.randbytes(source.randrange(1, 300 * KIB)))
        file.truncate(13 * MIB + 512 * 7)
    return path


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("force_size", ["on", "off"])
def test_images_of_qemu(tmp_path, content, kind, force_size):
    """With ``force_size`` QEMU takes the current size, else a size rounded up to a geometry; ours is always the one
    that QEMU reads back, because its own images state the rounded size as the current one."""
    tool, path = require_tool("qemu-img"), tmp_path / "a.vhd"
    options = f"subformat={kind},force_size={force_size}"
    run(tool, "convert", "-f", "raw", "-O", "vpc", "-o", options, str(content), str(path))
    info = json.loads(run(tool, "info", "-f", "vpc", "--output=json", str(path)).stdout)
    with open_disk(path) as disk:
        assert disk.info.type == kind
        assert disk.size == info["virtual-size"]
        assert (disk.size == content.stat().st_size) is (force_size == "on")
        data = disk.read_at(0, disk.size)
        assert compare_with_pyvhdi(disk).agrees
    assert data == by_qemu(path, tmp_path) == by_7zip(path, tmp_path)
    assert data[: content.stat().st_size] == content.read_bytes()


@pytest.mark.parametrize(
    ("creator", "qemu_agrees"),
    [(b"win ", True), (b"qem2", True), (b"d2v ", True), (b"tap\0", True), (b"vpc ", False), (b"qemu", False)],
)
def test_the_size_of_images_by_their_creator(tmp_path, creator, qemu_agrees):
    """40 MiB, of which the geometry reaches all but 33,280 bytes.

    QEMU goes by the geometry for Virtual PC and for itself; 7-Zip and libvhdi go by the current size, as Hyper-V.
    """
    pyvhdi = pytest.importorskip("pyvhdi")
    path = tmp_path / "a.vhd"
    blocks = {19: Block(pattern(19, 2 * MIB))}
    write_vhd(path, virtual_size=40 * MIB, unique_id=UUID(int=1), timestamp=TIME, creator=creator, blocks=blocks)
    info = json.loads(run(require_tool("qemu-img"), "info", "-f", "vpc", "--output=json", str(path)).stdout)
    assert info["virtual-size"] == (40 * MIB if qemu_agrees else 963 * 5 * 17 * 512)
    reader = pyvhdi.file()
    reader.open(str(path))
    assert reader.get_media_size() == 40 * MIB
    reader.close()
    data = ours(path)
    assert len(data) == 40 * MIB
    assert data == by_7zip(path, tmp_path)
    assert data[: info["virtual-size"]] == by_qemu(path, tmp_path)


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("block_size", [512 * KIB, 2 * MIB, 4 * MIB])
def test_images_of_ours_before_all_readers(tmp_path, kind, block_size):
    path = tmp_path / "a.vhd"
    size = 9 * MIB + 1024
    count = -(-size // block_size)
    blocks = {number: Block(pattern(number, block_size)) for number in range(count - 1) if number % 3 != 1}
    write_vhd(
        path, virtual_size=size, unique_id=UUID(int=3), timestamp=TIME, kind=kind, block_size=block_size, blocks=blocks,
        order=sorted(blocks, reverse=True),
    )  # fmt: skip
    expected = bytearray(size)
    for number, block in blocks.items():
        expected[number * block_size : (number + 1) * block_size] = block.data
    assert bytes(expected) == ours(path) == by_qemu(path, tmp_path) == by_7zip(path, tmp_path)
    with open_disk(path) as disk:
        report = compare_with_pyvhdi(disk)
        assert report.agrees
        assert report.left_out == ()


def test_a_dynamic_bitmap_with_clear_bits(tmp_path):
    """Over zeros all agree. Over data QEMU returns what lies there, 7-Zip calls the image damaged, libvhdi and we
    follow the bitmap as the specification has it, and an audit names the contradiction."""
    path, torn = tmp_path / "a.vhd", tmp_path / "torn.vhd"
    bitmap = random.Random(4).randbytes(512)
    full = pattern(2, 2 * MIB)
    written = b"".join(
        full[place : place + 512] if bitmap[place // 4096] & 0x80 >> place // 512 % 8 else bytes(512)
        for place in range(0, 2 * MIB, 512)
    )
    common = {"virtual_size": 4 * MIB, "unique_id": UUID(int=1), "timestamp": TIME}
    write_vhd(path, **common, blocks={0: Block(pattern(1, 2 * MIB)), 1: Block(written, bitmap)})
    write_vhd(torn, **common, blocks={0: Block(pattern(1, 2 * MIB)), 1: Block(full, bitmap)})
    expected = pattern(1, 2 * MIB) + written
    assert ours(path) == by_qemu(path, tmp_path) == by_7zip(path, tmp_path) == expected
    assert ours(torn) == expected
    assert by_qemu(torn, tmp_path) == pattern(1, 2 * MIB) + full
    ended = run(require_tool("7zz"), "t", "-tVHD", str(torn), check=False)
    assert ended.returncode == 2
    with open_disk(torn) as disk:
        assert [f.code for f in audit_disk(disk).findings if f.severity != "info"] == ["vhd-bitmap-hides-data"]
        report = compare_with_pyvhdi(disk)
        assert report.agrees
        assert [left.fault for left in report.left_out] == ["bitmap-byte-run"]


def test_a_child_of_ours_as_in_7zip(tmp_path):
    """libvhdi misreads bitmaps whose runs do not fill bytes (reader_faults.py), QEMU knows no parents: 7-Zip judges."""
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    common = {"virtual_size": 8 * MIB, "timestamp": TIME}
    blocks = {number: Block(pattern(number, 2 * MIB)) for number in (0, 1, 3)}
    write_vhd(base, unique_id=UUID(int=1), blocks=blocks, **common)
    bitmap = random.Random(9).randbytes(512)
    parent = Parent(UUID(int=1), None, "base.vhd", ".\\base.vhd", str(base))
    changed = {1: Block(pattern(8, 2 * MIB), bitmap), 2: Block(pattern(9, 2 * MIB))}
    write_vhd(child, unique_id=UUID(int=2), kind="differencing", parent=parent, blocks=changed, **common)
    data = ours(child)
    assert data == by_7zip(child, tmp_path)
    parents, childs = pattern(1, 2 * MIB), pattern(8, 2 * MIB)
    for place in range(0, 2 * MIB, 512):
        source = childs if bitmap[place // 4096] & 0x80 >> place // 512 % 8 else parents
        assert data[2 * MIB + place : 2 * MIB + place + 512] == source[place : place + 512]
    with open_disk(child) as disk:
        report = compare_with_pyvhdi(disk)
        assert report.agrees
        assert [left.fault for left in report.left_out] == ["bitmap-byte-run"]
