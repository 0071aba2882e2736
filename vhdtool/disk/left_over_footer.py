"""A volume that was cut out of a fixed VHD together with the footer behind it.

Somebody copies a disk from the start of its partition to the end of the file: the copy starts with the volume and
ends with the footer of the whole disk, which is now longer than the file. That is no truncated VHD (those start with
the disk's first sector) but a raw volume with 512 bytes too many. Seen on a published file: ntfs.bin of the tests of
dissect.ntfs, which every reader of raw volumes (Sleuth Kit, dissect, 7-Zip) opens.
"""

from __future__ import annotations

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.vhd_footer import read_footers
from vhdtool.errors import InputError
from vhdtool.layout import packed

NTFS_BOOT_SECTOR = c.Struct(  # the fields that say how long the volume is
    c.Padding(3),
    "oem_id" / c.Bytes(8),
    "bytes_per_sector" / c.Int16ul,
    c.Padding(27),
    "total_sectors" / c.Int64ul,
)
_BOOT = packed(NTFS_BOOT_SECTOR)


def left_over_footer(file: ByteSource) -> int | None:
    """Return where the footer starts that belongs to a longer disk, or ``None`` where it is this file's own.

    It is left over when it describes a fixed disk that is longer than the file, and the file starts with an NTFS
    volume that ends before it: a disk's first sector is no NTFS boot sector, unless it has no partitions, and then
    the volume would be as long as the disk.
    """
    start = file.read_at(0, _BOOT.size)
    if len(start) < _BOOT.size:
        return None
    oem_id, bytes_per_sector, total_sectors = _BOOT.unpack(start)
    if oem_id != b"NTFS    " or bytes_per_sector not in {512, 1024, 2048, 4096}:
        return None
    try:
        footers = read_footers(file)
    except InputError:
        return None
    footer, place = footers.footer, footers.tail.offset
    volume = (total_sectors + 1) * bytes_per_sector  # the backup boot sector follows the counted sectors
    if footer.disk_type != fmt.DiskType.FIXED or footer.current_size <= place or not 0 < volume <= place:
        return None
    return place
