"""Bytes of a file overwritten where they lie, on volumes that mkntfs and wimlib made; foreign readers judge."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.fs.ntfs_surgery import differing
from tests.guests import NTFS_TOOLS, format_ntfs, make_ntfs
from tests.oracle.ntfs_volumes import FileVolume, judge
from tests.tools import require_tool, run
from tests.volume.memory import MemoryDevice
from vhdtool.disk.chain import open_disk
from vhdtool.disk.device import FileDevice
from vhdtool.errors import RefusedError
from vhdtool.fs.fitness import refuse_unfit_hive, refuse_unfit_volume
from vhdtool.fs.in_place import overwrite
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import check_touched, check_volume
from vhdtool.volume.partitions import Volume, read_volumes

pytestmark = pytest.mark.oracle

HIVE = "Windows/System32/config/SYSTEM"
LAYOUTS = [(512, 512), (4096, 512), (65536, 512), (4096, 4096), (65536, 4096)]


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {
    HIVE: content(1, 700_000),
    HIVE + ".LOG1": content(2, 70_000),
    "Windows/System32/drivers/vmbus.sys": content(3, 5000),
    "Users/Größe/straße.bin": content(4, 200_001),
}


def volume_of(path: Path) -> Volume:
    return Volume(0, 0, path.stat().st_size, "none", "", None, "data", filesystem="ntfs")


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: f"clusters-{layout[0]}-sectors-{layout[1]}")
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    for tool in NTFS_TOOLS:
        require_tool(tool)
    cluster_size, sector_size = request.param
    path = tmp_path_factory.mktemp("in-place") / "volume.ntfs"
    make_ntfs(path, FILES, cluster_size=cluster_size, sector_size=sector_size, free_space=12 << 20)
    return path, sector_size


def edits(rng: random.Random, size: int) -> Iterator[tuple[int, bytes]]:
    """Pieces as an edited hive has them, and odd ones: within a sector, over the ends of clusters, the last byte."""
    for _ in range(rng.randint(1, 12)):
        length = rng.choice([1, 3, 511, 512, 513, 4096, 65536 + 7])
        offset = rng.choice([0, 4096 * rng.randrange(size // 4096 + 1), rng.randrange(size), size - 1])
        offset = min(offset, size - 1)
        yield offset, rng.randbytes(min(length, size - offset))


def test_foreign_readers_see_the_new_bytes_and_nothing_else(template: tuple[Path, int], tmp_path: Path) -> None:
    source, sector_size = template
    before = source.read_bytes()
    path = tmp_path / "volume.ntfs"
    path.write_bytes(before)
    rng = random.Random(sector_size + len(before))
    expected = {f"/{name}": bytearray(data) for name, data in FILES.items()}
    device = FileVolume(path, sector_size)
    filesystem = NtfsFilesystem(device)
    refuse_unfit_volume(device, volume_of(path), filesystem, room=1)
    refuse_unfit_hive(filesystem, "/" + HIVE)
    segments = []
    for name, data in expected.items():
        pieces = list(edits(rng, len(data)))
        assert overwrite(device, filesystem, name, pieces) == sum(len(piece) for _, piece in pieces)
        for offset, piece in pieces:
            data[offset : offset + len(piece)] = piece
        stat = filesystem.stat(name)
        assert stat is not None
        assert stat.record is not None
        segments.append(stat.record)
    written = list(device.written)
    device.close()
    after = path.read_bytes()
    for name, data in expected.items():
        assert run(require_tool("ntfscat"), "-f", str(path), name).stdout == data, name
    directories = {"/" + "/".join(Path(name).parts[1:end]) for name in expected for end in range(2, 9)}
    tree = {**dict.fromkeys(directories - expected.keys()), **{name: bytes(data) for name, data in expected.items()}}
    judge(path, {**tree, "/Program Files": None}, sector=sector_size)
    assert sleuthkit_content(path) == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}
    # No byte outside of what was said to be written, and our own judge agrees.
    allowed = bytearray(len(before))
    for offset, length in written:
        allowed[offset : offset + length] = b"\1" * length
    for offset, length in differing(before, after):
        changed = [at for at in range(offset, offset + length) if before[at] != after[at]]
        assert all(allowed[at] for at in changed)
    devices = MemoryDevice(before, sector_size), MemoryDevice(after, sector_size)
    assert check_touched(*devices, differing(before, after), path=None, overwritten=segments) == ()
    assert check_volume(devices[1]) == ()


def sleuthkit_content(path: Path) -> dict[str, str]:
    """Digests by icat, of the files that fls lists."""
    found = {}
    listed = run(require_tool("fls"), "-u", "-r", "-p", "-f", "ntfs", str(path)).stdout.decode()
    for line in listed.splitlines():
        kinds, name = line.split("\t", 1)
        address = kinds.split()[-1].rstrip(":")
        if kinds.startswith("r/r") and "/" + name in {f"/{one}" for one in FILES}:
            data = run(require_tool("icat"), "-f", "ntfs", str(path), address).stdout
            found["/" + name] = hashlib.sha256(data).hexdigest()
    return found


def test_a_volume_that_windows_made(tmp_path: Path) -> None:
    """Its own files are compressed or resident, so ntfscp puts one there, which is then overwritten."""
    with open_disk(data_file("vhd/fox-it__dissect.hypervisor/fixed.vhdx.gz")) as disk:
        (volume,) = [found for found in read_volumes(disk).volumes if found.filesystem == "ntfs"]
        data = disk.read_at(volume.offset, volume.size)
    path, source = tmp_path / "volume.ntfs", tmp_path / "source"
    path.write_bytes(data)
    expected = bytearray(content(7, 300_000))
    source.write_bytes(expected)
    run(require_tool("ntfscp"), "-q", "-f", str(path), str(source), "/Random.bin")
    before = path.read_bytes()
    device = FileVolume(path)
    filesystem = NtfsFilesystem(device)
    refuse_unfit_volume(device, volume_of(path), filesystem)
    pieces = list(edits(random.Random(11), len(expected)))
    overwrite(device, filesystem, "/random.BIN", pieces)
    for offset, piece in pieces:
        expected[offset : offset + len(piece)] = piece
    stat = filesystem.stat("/Random.bin")
    assert stat is not None
    assert stat.record is not None
    device.close()
    after = path.read_bytes()
    assert run(require_tool("ntfscat"), "-f", str(path), "/Random.bin").stdout == expected
    assert run(require_tool("7zz"), "x", "-so", "-tntfs", str(path), "Random.bin").stdout == expected
    judge(path)
    written = differing(before, after)
    devices = MemoryDevice(before), MemoryDevice(after)
    assert check_touched(*devices, written, path=None, overwritten=[stat.record]) == ()
    # What ntfscp did to the Windows-made volume is sound by our own judge too.
    made = differing(data, before)
    assert check_touched(MemoryDevice(data), MemoryDevice(before), made, path=None, overwritten=()) == ()


@pytest.mark.parametrize(
    ("mark", "code"), [(b"hibr", "hibernated"), (b"wake", "hibernation-resumed"), (b"RSTR", "hibernated")]
)
def test_a_hibernated_volume_is_left_alone(mark: bytes, code: str, tmp_path: Path) -> None:
    """hiberfil.sys as Windows leaves it, put there by ntfscp."""
    path, source = tmp_path / "volume.ntfs", tmp_path / "source"
    require_tool("mkntfs")
    format_ntfs(path, 8 << 20)
    source.write_bytes(mark.ljust(1 << 16, b"\0"))
    run(require_tool("ntfscp"), "-q", "-f", str(path), str(source), "/hiberfil.sys")
    before = hashlib.sha256(path.read_bytes()).digest()
    device = FileDevice(path)
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(device, volume_of(path), NtfsFilesystem(device))
    device.close()
    assert caught.value.code == code
    assert hashlib.sha256(path.read_bytes()).digest() == before
