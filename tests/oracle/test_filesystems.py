"""Guest file systems against other readers of them: The Sleuth Kit, ntfs-3g, 7-Zip, debugfs, btrfs, mtools, wimlib.

No second reader of XFS or exFAT is at hand that needs no kernel: XFS is made from known files instead, and exFAT is
held by ``tests/fs/test_exfat.py`` to volumes written by its specification.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dissect.util.compression import lzxpress_huffman

from tests.data_files import data_file
from tests.fs import features
from tests.tools import require_tool, run
from tests.volume.memory import MemoryDevice
from vhdtool.bytesource import BytesSource
from vhdtool.disk.device import DeviceStream, FileDevice
from vhdtool.fs.base import FileStat, GuestFilesystem
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.read import open_filesystem
from vhdtool.fs.wof import WofFile, wof_algorithm
from vhdtool.fs.xpress import decompress
from vhdtool.volume.partitions import read_volumes, volume_device

pytestmark = pytest.mark.oracle


def walk(fs: GuestFilesystem, path: str = "/") -> Iterator[tuple[str, FileStat]]:
    for entry in fs.list(path):
        below = f"{path.rstrip('/')}/{entry.name}"
        yield below, entry
        if entry.kind == "directory":
            yield from walk(fs, below)


def content(fs: GuestFilesystem, path: str) -> bytes:
    file = fs.open(path)
    return file.read_at(0, file.size)


def opened(image: Path, index: int = 0) -> tuple[GuestFilesystem, int]:
    device = FileDevice(image)
    volume = read_volumes(device).volumes[index]
    return open_filesystem(volume_device(device, volume), volume), volume.offset


def raw(name: str, kind: str, folder: Path) -> Path:
    target = folder / "raw"
    run(require_tool("qemu-img"), "convert", "-f", kind, "-O", "raw", str(data_file(name)), str(target))
    return target


NTFS = [
    ("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz", None),
    ("ntfs/ColinFinck__ntfs/testfs1.xz", None),
    ("ntfs/google__grr/ntfs_img.dd.xz", None),
    ("ntfs/log2timeline__dfvfs/windows_volume.qcow2.xz", "qcow2"),
    ("vhd/fox-it__dissect.hypervisor/dynamic.vhd.gz", "vpc"),
    ("vhd/fox-it__dissect.hypervisor/fixed.vhdx.gz", "vhdx"),
]


@pytest.mark.parametrize(("name", "kind"), NTFS)
def test_ntfs_names_and_contents_as_the_sleuth_kit_reads_them(name: str, kind: str | None, tmp_path: Path) -> None:
    image = data_file(name) if kind is None else raw(name, kind, tmp_path)
    fs, offset = opened(image)
    place = ("-f", "ntfs", "-o", str(offset // 512), str(image))
    ours = dict(walk(fs))
    told: dict[str, str] = {}
    for line in run(require_tool("fls"), "-u", "-r", "-p", *place).stdout.decode().splitlines():
        kinds, path = line.split("\t", 1)
        address = kinds.split()[-1].rstrip(":")
        if "$OrphanFiles" in path or path.split(":")[0].endswith("/."):  # a virtual folder, a directory itself
            continue
        if "/" + path in ours:
            told["/" + path] = address
        else:  # named streams and indexes are listed as name:stream
            told.setdefault("/" + path.rpartition(":")[0], address)
    assert set(ours) == set(told)
    assert {path: entry.record for path, entry in ours.items()} == {
        path: int(address.split("-")[0]) for path, address in told.items()
    }
    icat = require_tool("icat")
    checked = 0
    # About a hundred files: icat is one process each. Empty ones are left out: of a file that has named streams only
    # icat shows one of these.
    files = [path for path, entry in ours.items() if entry.kind == "file" and 0 < fs.open(path).size < 32 << 20]
    for path in files[:: max(1, len(files) // 100)]:
        theirs = subprocess.run([icat, *place, told[path]], capture_output=True, check=True).stdout
        mine = content(fs, path)
        assert hashlib.sha256(theirs).digest() == hashlib.sha256(mine).digest(), path
        checked += 1
    assert checked >= 5


def test_every_name_of_the_large_directory_as_7_zip_reads_it(tmp_path: Path) -> None:
    image = data_file("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz")
    run(require_tool("7zz"), "x", "-tntfs", f"-o{tmp_path}", str(image))
    fs, _ = opened(image)
    ours = {path: entry for path, entry in walk(fs) if not path.startswith("/$")}
    assert len(ours) > 2000
    theirs = {"/" + str(place.relative_to(tmp_path)): place for place in tmp_path.rglob("*")}
    assert set(ours) == {path for path in theirs if not path.startswith(("/[", "/$"))}
    for path, entry in ours.items():
        assert theirs[path].is_dir() == (entry.kind == "directory")
        if entry.kind == "file":
            assert theirs[path].read_bytes() == content(fs, path), path


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The volume through ntfs-3g and FUSE; skips where that is not allowed."""
    mount = image.with_suffix(".mount")
    mount.mkdir()
    options = "streams_interface=windows,compression"
    done = run(require_tool("ntfs-3g"), "-o", options, str(image), str(mount), check=False)
    if done.returncode:
        pytest.skip("ntfs-3g can't mount here (FUSE)")
    try:
        yield mount
    finally:
        run("fusermount", "-u", str(mount))


def new_ntfs(folder: Path, mebibytes: int) -> Path:
    image = folder / "volume"
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    run(require_tool("mkntfs"), "-F", "-q", str(image))
    return image


def test_a_file_in_many_pieces_with_an_attribute_list(tmp_path: Path) -> None:
    image = new_ntfs(tmp_path, 48)
    source = random.Random(4)
    with mounted(image) as mount:
        count = 0
        try:
            while True:
                (mount / f"{count}").write_bytes(b"x" * 4096)
                count += 1
        except OSError:
            pass
        for number in range(0, count, 2):
            (mount / f"{number}").unlink()
        wanted = source.randbytes(4096 * (count // 2 - 600))
        (mount / "pieces").write_bytes(wanted)
    fs, _ = opened(image)
    file = fs.open("/pieces")
    assert len(file.extents()) > 1000
    assert isinstance(fs, NtfsFilesystem)
    assert len(fs.mft.record(fs.stat("/pieces").record).find(0x80)) > 1  # type: ignore[union-attr,arg-type]
    assert content(fs, "/pieces") == wanted


def test_a_look_up_in_a_large_system_reads_little(tmp_path: Path) -> None:
    image = new_ntfs(tmp_path, 256)
    source = random.Random(3)
    with mounted(image) as mount:
        config = mount / "Windows" / "System32" / "config"
        config.mkdir(parents=True)
        for number in range(4000):
            (config.parent / f"{source.randbytes(source.randint(2, 9)).hex()}{number}.dll").write_bytes(b"x")
        (config / "SYSTEM").write_bytes(bytes(1_000_000))
    device = FileDevice(image)
    volume = read_volumes(device).volumes[0]
    fs = open_filesystem(volume_device(device, volume), volume)
    assert fs.open(r"\windows\system32\CONFIG\system").size == 1_000_000
    assert device.bytes_read < 100_000
    assert len(fs.list("/Windows/System32")) == 4001


def test_dissect_misses_names_that_are_there() -> None:
    """Why names are looked up by own code: if this fails, dissect has been put right."""
    import dissect.ntfs  # noqa: PLC0415

    volume = dissect.ntfs.NTFS(DeviceStream(MemoryDevice(features.volume())))
    missed = []
    for name in features.NAMES:
        try:
            volume.mft.get(f"names/{name}")
        except FileNotFoundError:
            missed.append(name)
    assert len(missed) > 5
    ours = NtfsFilesystem(MemoryDevice(features.volume()))
    assert all(ours.stat(f"/names/{name}") for name in missed)


def test_compressed_and_sparse_files_as_ntfs_3g_reads_them(tmp_path: Path) -> None:
    image = tmp_path / "volume"
    image.write_bytes(features.volume())
    fs, _ = opened(image)
    for path in (*features.FILES, "/" + features.SPARSE, features.SPILLED):
        theirs = run(require_tool("ntfscat"), "-f", str(image), path).stdout
        assert theirs == content(fs, path), path


@pytest.mark.parametrize(
    ("number", "kind", "chunk_size"),
    [(0, "XPRESS", 4096), (1, "LZX", 32768), (2, "XPRESS", 8192), (3, "XPRESS", 16384)],
)
def test_wof_chunks_as_wimlib_compresses_them(number: int, kind: str, chunk_size: int, tmp_path: Path) -> None:
    source = random.Random(number)
    samples = [
        Path(os.path.realpath("/bin/sh")).read_bytes(),
        b"".join(bytes([source.choice(b"\xe8\xe9\0\0\1\2\xffA")]) for _ in range(100_001)),
        bytes(1_000_000) + source.randbytes(50_000) + b"end" * 20_000,
        b"hello " * 100,
    ]
    folder = tmp_path / "source"
    folder.mkdir()
    for index, sample in enumerate(samples):
        (folder / f"{index}").write_bytes(sample)
    archive = tmp_path / "archive.wim"
    wimlib = require_tool("wimlib-imagex")
    run(wimlib, "capture", str(folder), str(archive), f"--compress={kind}", f"--chunk-size={chunk_size}")
    algorithm = wof_algorithm(bytes([1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, number, 0, 0, 0]), "/f")
    for sample in samples:
        stored = features.wim_resource(archive.read_bytes(), len(sample))
        file = WofFile("/f", BytesSource(stored), len(sample), algorithm)
        assert file.read_at(0, len(sample)) == sample
        at = source.randrange(len(sample))
        assert file.read_at(at, 9000) == sample[at : at + 9000]


def test_dissect_loses_the_last_bytes_of_some_xpress_chunks(tmp_path: Path) -> None:
    """Why ``fs/xpress.py`` is our own: 640 bytes that wimlib compressed come out of dissect.util as 639."""
    source = random.Random(104)
    sample = bytes(source.choice(b"abcd") for _ in range(source.randrange(600, 2000)))
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "f").write_bytes(sample)
    archive = tmp_path / "archive.wim"
    wimlib = require_tool("wimlib-imagex")
    run(wimlib, "capture", str(folder), str(archive), "--compress=XPRESS", "--chunk-size=4096")
    chunk = features.wim_resource(archive.read_bytes(), len(sample))
    theirs = lzxpress_huffman.decompress(chunk)
    assert (len(theirs), theirs) == (len(sample) - 1, sample[:-1])
    assert decompress(chunk, len(sample)) == sample


def tree(folder: Path) -> dict[str, bytes]:
    source = random.Random(9)
    files = {
        "/hello.txt": b"hello",
        "/empty": b"",
        "/etc/os-release": b"NAME=test\n" * 30,
        "/lib/modules/6.1.0/kernel/drivers/hv/hv_vmbus.ko": source.randbytes(300_000),
        "/big": source.randbytes(3_000_000),
        **{f"/many/{number:04}": str(number).encode() for number in range(600)},
    }
    for path, data in files.items():
        place = folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return files


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "btrfs", "xfs"])
def test_linux_file_systems_made_from_known_files(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    files = tree(folder)
    if kind != "xfs":
        (folder / "bin").symlink_to("lib/modules")
        # A hole over the start of the double indirect blocks, and one at the end.
        with (folder / "holes").open("wb") as file:
            file.write(b"first")
            file.seek(9_000_000)
            file.write(b"last")
            file.truncate(12_000_000)
        files["/holes"] = (folder / "holes").read_bytes()
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate((320 if kind == "xfs" else 160) << 20)
    if kind == "btrfs":
        run(require_tool("mkfs.btrfs"), "-q", "-L", "label", "--rootdir", str(folder), str(image))
    elif kind == "xfs":
        prototype = tmp_path / "prototype"
        prototype.write_text(xfs_prototype(folder))
        run(require_tool("mkfs.xfs"), "-q", "-L", "label", "-p", str(prototype), str(image))
    else:
        run(require_tool(f"mkfs.{kind}"), "-q", "-F", "-L", "label", "-b", "1024", "-d", str(folder), str(image))
    fs, _ = opened(image)
    assert fs.label == "label"
    assert fs.kind == kind[:3] if kind.startswith("ext") else fs.kind == kind
    ours = dict(walk(fs))
    assert {path for path, entry in ours.items() if entry.kind == "file"} == set(files)
    for path, data in files.items():
        assert content(fs, path) == data, path
    if kind != "xfs":
        assert ours["/bin"].link_target == "lib/modules"
        assert (
            content(fs, "/bin/6.1.0/kernel/drivers/hv/hv_vmbus.ko")
            == files["/lib/modules/6.1.0/kernel/drivers/hv/hv_vmbus.ko"]
        )


def xfs_prototype(folder: Path) -> str:
    """mkfs.xfs's description of a tree: one line for each entry, $ at the end of a directory."""

    def lines(place: Path) -> Iterator[str]:
        for entry in sorted(place.iterdir()):
            if entry.is_dir():
                yield f"{entry.name} d--755 0 0"
                yield from lines(entry)
                yield "$"
            else:
                yield f"{entry.name} ---644 0 0 {entry}"

    return "\n".join(["/", "0 0", "d--755 0 0", *lines(folder), "$"]) + "\n"


def test_ext_as_debugfs_reads_it(tmp_path: Path) -> None:
    for name, kind in (
        ("linuxfs/fox-it__dissect.extfs/ext4.bin.gz", None),
        ("vhd/SecurityRonin__vhdx-core/ext2.vhd.xz", "vpc"),
    ):
        image = data_file(name) if kind is None else raw(name, kind, tmp_path)
        fs, _ = opened(image)
        files = [path for path, entry in walk(fs) if entry.kind == "file"]
        assert files
        for path in files:
            theirs = run(require_tool("debugfs"), "-R", f'cat "{path}"', str(image)).stdout
            assert theirs == content(fs, path), path


@pytest.mark.parametrize(("bits", "mebibytes"), [(12, 4), (16, 32), (32, 128)])
def test_fat_as_mtools_writes_it(bits: int, mebibytes: int, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    source = random.Random(bits)
    files = {
        "/short.txt": b"short",
        "/A long name with ümlaut.txt": source.randbytes(70_000),
        "/dir/sub/inner.bin": source.randbytes(200_001),
        **{f"/many/file number {number}.txt": str(number).encode() for number in range(60)},
    }
    for path, data in files.items():
        place = folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    run(require_tool("mkfs.vfat"), "-F", str(bits), "-n", "FATLABEL", str(image))
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    places = [str(place) for place in sorted(folder.iterdir())]
    subprocess.run([require_tool("mcopy"), "-s", "-i", str(image), *places, "::/"], check=True, env=environment)
    device = FileDevice(image)
    volume = read_volumes(device).volumes[0]
    assert (volume.filesystem, volume.label) == (f"fat{bits}", "FATLABEL")
    fs = open_filesystem(device, volume)
    assert fs.label == "FATLABEL"
    assert {path.lower() for path, entry in walk(fs) if entry.kind == "file"} == {path.lower() for path in files}
    for path, data in files.items():
        assert content(fs, path.upper()) == data


def test_an_empty_exfat_volume(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    run(require_tool("mkfs.exfat"), "-L", "exlabel", str(image))
    fs, _ = opened(image)
    assert (fs.kind, fs.label, list(fs.list("/"))) == ("exfat", "exlabel", [])
