from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.data_files import data_file
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.chain import open_disk
from vhdtool.disk.vhd_footer import Footer, encode_footer
from vhdtool.errors import DamagedError

MIB = 1 << 20


def footer(size: int) -> bytes:
    return encode_footer(
        Footer(
            features=2,
            format_version=0x10000,
            data_offset=(1 << 64) - 1,
            timestamp=datetime(2020, 1, 1, tzinfo=UTC),
            creator_application=b"win ",
            creator_version=0x60003,
            creator_host=b"Wi2k",
            original_size=size,
            current_size=size,
            geometry=(300, 4, 17),
            disk_type=fmt.DiskType.FIXED,
            unique_id=UUID(int=7),
            saved_state=False,
        )
    )


def volume(sectors: int) -> bytes:
    boot = bytearray(sectors * 512)
    boot[3:11] = b"NTFS    "
    boot[11:13] = (512).to_bytes(2, "little")
    boot[40:48] = (sectors - 1).to_bytes(8, "little")
    return bytes(boot)


def written(folder: Path, *parts: bytes) -> Path:
    path = folder / "image.bin"
    path.write_bytes(b"".join(parts))
    return path


def test_a_volume_with_the_footer_of_its_whole_disk_is_raw(tmp_path: Path) -> None:
    data = volume(2000)
    with open_disk(written(tmp_path, data, footer(2 * MIB))) as disk:
        assert (disk.info.format, disk.size) == ("raw", len(data))
        assert [problem.code for problem in disk.info.problems] == ["vhd-footer-left-over"]
        assert disk.read_at(0, disk.size) == data


def test_a_volume_that_fills_its_disk_is_a_vhd(tmp_path: Path) -> None:
    data = volume(2048)
    with open_disk(written(tmp_path, data, footer(MIB))) as disk:
        assert (disk.info.format, disk.size, disk.info.problems) == ("vhd", MIB, ())


@pytest.mark.parametrize(
    "start",
    [bytes(2000 * 512), volume(4000)[: 2000 * 512]],
    ids=["no volume", "a volume that was cut off as well"],
)
def test_a_truncated_disk_stays_an_error(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(DamagedError) as caught:
        open_disk(written(tmp_path, start, footer(4 * MIB)))
    assert caught.value.code == "vhd-file-truncated"


def test_the_published_volume() -> None:
    with open_disk(data_file("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz")) as disk:
        # 0x37ff sectors and the backup boot sector, of the boot sector's own words; the file has 10420736 bytes
        assert (disk.info.format, disk.size) == ("raw", 10_420_736 - 512)
