"""Makes ``features.ntfs.xz``, the volume that the unit tests read: one file for each way NTFS stores bytes.

Needs root, ntfs-3g (FUSE) and wimlib-imagex: run it by hand when the volume is to change. What lies where, and what
each file holds, is in ``features.py``, which the tests compare with.
"""

from __future__ import annotations

import lzma
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from tests.fs import features

VOLUME_SIZE = 5 * 1024 * 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        image, mount = Path(folder) / "volume", Path(folder) / "mount"
        mount.mkdir()
        image.write_bytes(bytes(VOLUME_SIZE))
        run("mkntfs", "-F", "-q", "-L", features.LABEL, str(image))
        run("ntfs-3g", "-o", "streams_interface=windows,compression", str(image), str(mount))
        try:
            fill(mount, Path(folder))
        finally:
            run("fusermount", "-u", str(mount))
        # The differences between 16-bit words: $UpCase, the largest file, counts up.
        filters = [{"id": lzma.FILTER_DELTA, "dist": 2}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        packed = lzma.compress(image.read_bytes(), filters=filters)
    Path(__file__).with_name("features.ntfs.xz").write_bytes(packed)


def fill(mount: Path, work: Path) -> None:
    for path, content in features.FILES.items():
        place = mount / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("/compressed"):
            os.setxattr(place.parent, b"system.ntfs_attrib", struct.pack("<I", 0x810))
        place.write_bytes(content)
    sparse(mount / features.SPARSE)
    spilled(mount)
    (mount / "names").mkdir()
    for name in features.NAMES:
        (mount / "names" / name).write_bytes(name.encode())
    links(mount)
    wof(mount, work)
    os.setxattr(mount / features.LONG_NAME, b"system.ntfs_dos_name", features.SHORT_NAME.encode())


def spilled(mount: Path) -> None:
    """Give a file so many names that its attributes need more than one MFT record: an attribute list."""
    place = mount / features.SPILLED.lstrip("/")
    place.write_bytes(features.FILES["/plain.bin"])
    links = mount / "hardlinks"
    links.mkdir()
    for number in range(features.HARD_LINKS):
        (links / f"{number:03} a name of some length, of which one record holds not many").hardlink_to(place)


def sparse(place: Path) -> None:
    with place.open("wb") as file:
        for offset, data in features.SPARSE_PIECES:
            file.seek(offset)
            file.write(data)
        file.truncate(features.SPARSE_SIZE)


def links(mount: Path) -> None:
    for path, (target, kind) in features.LINKS.items():
        place = mount / path.lstrip("/")
        name = target.encode("utf-16-le")
        if kind == "junction":
            place.mkdir()
            data = struct.pack("<HHHH", 0, len(name), len(name) + 2, 0) + name + bytes(4)
            reparse(place, 0xA0000003, data)
        else:
            place.write_bytes(b"")
            data = struct.pack("<HHHHI", 0, len(name), 0, len(name), kind == "relative") + name
            reparse(place, 0xA000000C, data)
    for path, (tag, data) in features.REPARSE.items():
        place = mount / path.lstrip("/")
        place.write_bytes(bytes(100))
        reparse(place, tag, data)


def wof(mount: Path, work: Path) -> None:
    """The chunks of a WIM resource are those of WOF: wimlib compresses, and its resource becomes the stream."""
    source = work / "source"
    source.mkdir()
    (source / "content").write_bytes(features.WOF_CONTENT)
    for path, (number, kind, chunk_size) in features.WOF.items():
        archive = work / f"{number}.wim"
        run("wimlib-imagex", "capture", str(source), str(archive), f"--compress={kind}", f"--chunk-size={chunk_size}")
        place = mount / path.lstrip("/")
        with place.open("wb") as file:
            file.truncate(len(features.WOF_CONTENT))
        Path(f"{place}:WofCompressedData").write_bytes(features.wim_resource(archive.read_bytes()))
        reparse(place, 0x80000017, struct.pack("<IIII", 1, 2, 1, number))


def reparse(place: Path, tag: int, data: bytes) -> None:
    os.setxattr(place, b"system.ntfs_reparse_data", struct.pack("<IHH", tag, len(data), 0) + data)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
