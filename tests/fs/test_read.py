from __future__ import annotations

import pytest

from tests.fs.test_ntfs import VOLUME
from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError, RefusedError, UnsupportedError
from vhdtool.fs.read import open_filesystem
from vhdtool.volume.partitions import Volume


def volume(**facts: str) -> Volume:
    return Volume(3, 0, len(VOLUME), "none", "", None, "data", **facts)


def test_ntfs() -> None:
    assert open_filesystem(MemoryDevice(VOLUME), volume(filesystem="ntfs")).kind == "ntfs"


@pytest.mark.parametrize(
    ("facts", "kind", "code"),
    [
        ({"encryption": "bitlocker"}, RefusedError, "encrypted"),
        ({"encryption": "luks", "filesystem": "ext"}, RefusedError, "encrypted"),
        ({"container": "ldm"}, UnsupportedError, "container-member"),
        ({"filesystem": "refs"}, UnsupportedError, "filesystem-unsupported"),
        ({}, UnsupportedError, "no-filesystem"),
    ],
)
def test_what_is_not_opened(facts: dict[str, str], kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as caught:
        open_filesystem(MemoryDevice(VOLUME), volume(**facts))
    assert caught.value.code == code  # type: ignore[attr-defined]


@pytest.mark.parametrize("filesystem", ["ntfs", "fat12", "fat16", "fat32", "exfat", "ext", "xfs", "btrfs"])
@pytest.mark.parametrize("data", [b"", bytes(100_000), b"\xff" * 100_000])
def test_a_mark_without_a_file_system_behind_it(filesystem: str, data: bytes) -> None:
    with pytest.raises(DamagedError):
        open_filesystem(MemoryDevice(data), volume(filesystem=filesystem)).list("/")
