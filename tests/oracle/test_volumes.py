"""Partition tables made by sgdisk and sfdisk, LVM by its on-disk format, and what other readers say of them."""

from __future__ import annotations

import json
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.tools import require_tool, run
from vhdtool.disk.device import DeviceStream, FileDevice
from vhdtool.fs.read import open_filesystem
from vhdtool.volume.partitions import read_volumes, volume_device

pytestmark = pytest.mark.oracle


def blank(path: Path, mebibytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    return path


def sfdisk_says(path: Path, sector_size: int = 512) -> list[tuple[int, int, str]]:
    told = run(require_tool("sfdisk"), "--json", str(path)).stdout
    table = json.loads(told)["partitiontable"]
    unit = table.get("sectorsize", 512)
    return [(part["start"] * unit, part["size"] * unit, part["type"].lower()) for part in table["partitions"]]


def test_gpt_as_sgdisk_makes_it(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk", 64)
    run(
        require_tool("sgdisk"),
        *("-n", "1:2048:+8M", "-t", "1:ef00", "-c", "1:EFI system partition"),
        *("-n", "2:0:+1M", "-t", "2:0c01"),
        *("-n", "3:0:+20M", "-t", "3:0700", "-c", "3:Grüße"),
        *("-n", "4:0:0", "-t", "4:2700"),
        str(disk),
    )
    device = FileDevice(disk)
    table = read_volumes(device)
    assert table.problems == ()
    assert [(v.offset, v.size, v.type_id) for v in table.volumes] == sfdisk_says(disk)
    assert [v.role for v in table.volumes] == ["esp", "msr", "data", "recovery"]
    assert table.volumes[2].name == "Grüße"


def test_dissect_makes_every_gpt_partition_one_sector_short(tmp_path: Path) -> None:
    """Why GPT is read by own code: if this fails, dissect has been put right."""
    from dissect.volume.disk import Disk  # noqa: PLC0415

    disk = blank(tmp_path / "disk", 16)
    run(require_tool("sgdisk"), "-n", "1:2048:+8M", str(disk))
    device = FileDevice(disk)
    ours = read_volumes(device).volumes[0]
    theirs = Disk(DeviceStream(device)).partitions[0]
    assert (theirs.offset, theirs.size) == (ours.offset, ours.size - 512)


def test_mbr_with_logical_partitions(tmp_path: Path) -> None:
    from dissect.volume.disk import Disk  # noqa: PLC0415

    disk = blank(tmp_path / "disk", 64)
    script = b"label: dos\n,8M,7,*\n,8M,7\n,30M,E\n,,83\n,4M,7\n,5M,83\n,6M,c\n"
    subprocess.run([require_tool("sfdisk"), str(disk)], input=script, check=True, capture_output=True)
    device = FileDevice(disk)
    volumes = read_volumes(device).volumes
    told = [part for part in sfdisk_says(disk) if part[2] not in ("5", "f", "85")]
    assert [(v.offset, v.size, v.type_id) for v in volumes] == [(a, b, f"{int(c, 16):#04x}") for a, b, c in told]
    theirs = Disk(DeviceStream(device)).partitions
    assert {(v.offset, v.size) for v in volumes} == {(part.offset, part.size) for part in theirs}


@pytest.mark.parametrize("name", ["dynamic.vhd", "fixed.vhd", "dynamic.vhdx", "fixed.vhdx"])
def test_disks_made_by_windows(name: str, tmp_path: Path) -> None:
    source = data_file(f"vhd/fox-it__dissect.hypervisor/{name}.gz")
    raw = tmp_path / "raw"
    kind = "vpc" if name.endswith(".vhd") else "vhdx"
    run(require_tool("qemu-img"), "convert", "-f", kind, "-O", "raw", str(source), str(raw))
    volumes = read_volumes(FileDevice(raw)).volumes
    assert [(v.offset, v.size) for v in volumes] == [part[:2] for part in sfdisk_says(raw)]
    assert [v.filesystem for v in volumes] == ["ntfs"]


def test_logical_volumes(tmp_path: Path) -> None:
    image = lvm_disk(tmp_path)
    device = FileDevice(image)
    table = read_volumes(device)
    assert [(v.scheme, v.container, v.name) for v in table.volumes] == [
        ("none", "lvm-pv", None),
        ("lvm", None, "vg/root"),
        ("lvm", None, "vg/swap"),
    ]
    root = table.volumes[1]
    assert (root.filesystem, root.label, root.size) == ("ext", "rootfs", 12 << 20)
    fs = open_filesystem(volume_device(device, root), root)
    assert fs.open("/hello").read_at(0, 99) == b"in a logical volume"


def lvm_disk(folder: Path) -> Path:
    """A physical volume by LVM2's on-disk format (label, header, text metadata); its own tools want block devices."""
    content = folder / "content"
    content.mkdir()
    (content / "hello").write_bytes(b"in a logical volume")
    root = blank(folder / "root", 12)
    run(require_tool("mkfs.ext4"), "-q", "-F", "-L", "rootfs", "-d", str(content), str(root))
    pv_id = "abcdefabcdefabcdefabcdefabcdef12"
    dashed = "abcdef-abcd-efab-cdef-abcd-efab-cdef12"
    size = 32 << 20
    # root: two segments, the second before the first on the disk.
    segments = [("root", [(0, 2, 4), (2, 1, 0)]), ("swap", [(0, 1, 2)])]
    text = 'vg {\nid = "AAAAAA-0000-0000-0000-0000-0000-000000"\nseqno = 1\nformat = "lvm2"\n'
    text += 'status = ["RESIZEABLE", "READ", "WRITE"]\nflags = []\nextent_size = 8192\nmax_lv = 0\nmax_pv = 0\n'
    text += f'physical_volumes {{\npv0 {{\nid = "{dashed}"\ndevice = "/dev/sda"\nstatus = ["ALLOCATABLE"]\nflags = []\n'
    text += f"dev_size = {size // 512}\npe_start = 2048\npe_count = 7\n}}\n}}\nlogical_volumes {{\n"
    for name, parts in segments:
        text += f'{name} {{\nid = "BBBBBB-{name}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\n'
        text += f"segment_count = {len(parts)}\n"
        for number, (start, count, at) in enumerate(parts, 1):
            text += f'segment{number} {{\nstart_extent = {start}\nextent_count = {count}\ntype = "striped"\n'
            text += f'stripe_count = 1\nstripes = [\n"pv0", {at}\n]\n}}\n'
        text += "}\n"
    text += '}\n}\ncontents = "Text Format Volume Group"\nversion = 1\ndescription = ""\n'
    text += 'creation_host = "test"\ncreation_time = 1600000000\n'
    metadata = text.encode() + b"\0"
    data = bytearray(size)
    label = b"LABELONE" + struct.pack("<QII", 1, zlib.crc32(b""), 32) + b"LVM2 001"
    areas = struct.pack("<QQQQ", 1 << 20, 0, 0, 0) + struct.pack("<QQQQ", 4096, (1 << 20) - 4096, 0, 0)
    header = label + pv_id.encode() + struct.pack("<Q", size) + areas
    data[512 : 512 + len(header)] = header
    area = struct.pack("<I", 0) + b" LVM2 x[5A%r0N*>" + struct.pack("<IQQ", 1, 4096, (1 << 20) - 4096)
    area += struct.pack("<QQII", 512, len(metadata), zlib.crc32(metadata), 0) + bytes(24)
    data[4096 : 4096 + len(area)] = area
    data[4608 : 4608 + len(metadata)] = metadata
    extent, start = 4 << 20, 1 << 20
    stored = root.read_bytes()
    data[start + 4 * extent : start + 6 * extent] = stored[: 2 * extent]
    data[start : start + extent] = stored[2 * extent :]
    disk = folder / "disk"
    disk.write_bytes(data)
    return disk
