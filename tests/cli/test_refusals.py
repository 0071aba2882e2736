"""Images in states that must not be changed: each target ends 4 with the state's code, and no byte differs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in, refused
from tests.cli.harness import run
from tests.cli.images import WINDOWS_OFFSET, WINDOWS_SIZE, bitlocker_volume, mbr_disk
from tests.fs.ntfs_surgery import DATA, VOLUME, Surgery, attribute, runs, value
from tests.fs.test_state import restart
from tests.tools import require_ntfs_writer

SYSTEM = "/Windows/System32/config/SYSTEM"
Change = Callable[[Surgery], None]


def volume_flags(flags: int) -> Change:
    def change(record: bytearray) -> None:
        struct.pack_into("<H", record, value(record, attribute(record, VOLUME)) + 10, flags)

    return lambda volume: volume.edit(3, change)


def log(page: bytes) -> Change:
    def change(volume: Surgery) -> None:
        record = volume.record(2)
        place = runs(record, attribute(record, DATA))[0][0] * volume.cluster
        volume.data[place : place + len(page)] = page

    return change


def mirror(volume: Surgery) -> None:
    volume.data[struct.unpack_from("<Q", volume.data, 56)[0] * volume.cluster + 1024 + 18] ^= 1


def stale_hive(volume: Surgery) -> None:
    """The SYSTEM hive claims a write that was never finished, and no log has it."""
    place = bytes(volume.data).find(b"regf")
    while b"S\0Y\0S\0T\0E\0M\0" not in volume.data[place + 48 : place + 112]:
        place = bytes(volume.data).find(b"regf", place + 4)
    sector = volume.data[place : place + 512]
    sequence = int.from_bytes(sector[4:8], "little") + 1
    sector[4:8] = sequence.to_bytes(4, "little")
    total = 0
    for (word,) in struct.iter_unpack("<I", sector[:508]):
        total ^= word
    sector[508:512] = total.to_bytes(4, "little")
    volume.data[place : place + 512] = sector


STATES: dict[str, tuple[Change, str]] = {
    "dirty bit": (volume_flags(1), "volume-dirty"),
    "log unclean": (log(restart((1, 1), 0)), "log-unclean"),
    "log of Windows 8 and later": (log(restart((2, 0), 2)), "log-version"),
    "mirror of the MFT differs": (mirror, "mft-mirror-differs"),
    "hive not written to its end": (stale_hive, "hive-dirty"),
}


@pytest.fixture(params=["in-place", "child", "output"])
def target(request, tmp_path) -> list[str]:
    return {
        "in-place": ["--in-place", "--no-children"],
        "child": ["--child", str(tmp_path / "new.vhdx")],
        "output": ["--output", str(tmp_path / "new.vhdx")],
    }[request.param]


def image_with(folder: Path, change: Change) -> Path:
    """The Windows fixture as a VHDX whose volume was changed behind everybody's back."""
    raw = image_in(folder, "raw")
    content = bytearray(raw.read_bytes())
    volume = Surgery(bytes(content[WINDOWS_OFFSET : WINDOWS_OFFSET + WINDOWS_SIZE]))
    change(volume)
    content[WINDOWS_OFFSET : WINDOWS_OFFSET + WINDOWS_SIZE] = volume.data
    raw.write_bytes(content)
    image = folder / "image.vhdx"
    assert run("disk", "convert", str(raw), str(image), "--block-size", "1M").code == 0
    raw.unlink()
    return image


@pytest.mark.parametrize("state", STATES)
def test_state_is_refused_for_every_target(state, target, tmp_path):
    change, code = STATES[state]
    image = image_with(tmp_path, change)
    before = digests(tmp_path)
    result = refused("services", "set", image, "vmicvss=disabled", *target)
    assert result.json["error"]["code"] == code
    assert result.json["error"]["hint"]
    assert digests(tmp_path) == before


def test_hibernated_guest_is_refused(target, tmp_path):
    require_ntfs_writer()
    source = tmp_path / "hiberfil.sys"
    source.write_bytes(b"hibr".ljust(8192, b"\0"))
    image = image_in(tmp_path, "windows-guest.vhdx")
    changed("put", image, source, "/", "--in-place")
    before = digests(tmp_path)
    result = refused("reg", "add", image, r"HKLM\SOFTWARE\A", *target)
    assert result.json["error"]["code"] == "hibernated"
    assert "shutdown" in result.json["error"]["hint"]
    assert digests(tmp_path) == before


def test_encrypted_volume_is_refused(tmp_path):
    image = mbr_disk(tmp_path / "disk.raw", [bitlocker_volume()])
    before = digests(tmp_path)
    for arguments in (["services", "set", image, "vmicvss=auto"], ["boot-ready", image], ["mkdir", image, "/a"]):
        extra = ["--fix"] if arguments[0] == "boot-ready" else []
        assert refused(*arguments, *extra, "--in-place").json["error"]["code"] == "encrypted"
    assert digests(tmp_path) == before


def test_image_that_somebody_writes_to_is_refused(target, tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    before = digests(tmp_path)
    with image.open("r+b"):
        result = refused("services", "set", image, "vmicvss=disabled", *target)
        assert result.json["error"]["code"] == "image-in-use"
        assert refused("recover", image).json["error"]["code"] == "image-in-use"
    assert digests(tmp_path) == before


def test_linux_guest_is_told_the_line_to_type(tmp_path):
    from tests.cli.linux import linux_disk  # noqa: PLC0415  # needs mke2fs

    image = linux_disk(tmp_path / "linux.raw")
    before = digests(tmp_path)
    result = refused("services", "set", image, "vmickvpexchange=auto", "--in-place")
    assert result.json["error"]["code"] == "linux-guest"
    assert "systemctl enable" in result.json["error"]["hint"]
    assert digests(tmp_path) == before
