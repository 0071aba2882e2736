from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Callable

import pytest

from tests.data_files import data_file
from tests.fs import features
from tests.fs.ntfs_surgery import DATA, FILE_NAME, STANDARD, VOLUME, Surgery, attribute, runs, value
from tests.fs.test_ntfs import VOLUME as FEATURES
from tests.fs.test_state import log_at, restart, torn
from tests.volume.memory import BASIC_DATA, MemoryDevice, gpt_disk
from vhdtool.disk.device import FileDevice
from vhdtool.errors import DamagedError, NotFoundError, RefusedError, UsageError, VhdtoolError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.fitness import refuse_unfit_hive, refuse_unfit_path, refuse_unfit_volume
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.volume.partitions import Volume, read_volumes, volume_device

PLAIN = Volume(0, 0, len(FEATURES), "none", "", None, "data", filesystem="ntfs")
LDM_DATA, STORAGE_SPACES = "af9b60a0-1431-4f62-bc68-3311714a69ad", "e75caf8f-f680-4cee-afa3-b001e56efc2d"

Change = Callable[[Surgery], None]

_FS = NtfsFilesystem(MemoryDevice(FEATURES))


def segment(path: str) -> int:
    stat = _FS.stat(path)
    assert stat is not None
    assert stat.record is not None
    return stat.record


def refusal(data: bytes, *, volume: Volume = PLAIN, room: int = 0) -> RefusedError:
    """What the volume is refused with; not a byte of it may change."""
    device = MemoryDevice(data)
    before = hashlib.sha256(data).digest()
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(device, volume, NtfsFilesystem(device), room=room)
    assert hashlib.sha256(device.data).digest() == before
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert caught.value.path == "volume 0"
    return caught.value


def changed(change: Change) -> bytes:
    volume = Surgery(FEATURES)
    change(volume)
    return bytes(volume.data)


def with_log(page: bytes) -> Change:
    def change(volume: Surgery) -> None:
        at = log_at(FEATURES)
        volume.data[at : at + len(page)] = page

    return change


def in_volume_information(offset: int, layout: str, content: int) -> Change:
    def change(record: bytearray) -> None:
        struct.pack_into(layout, record, value(record, attribute(record, VOLUME)) + offset, content)

    return lambda volume: volume.edit(3, change)


def hibernated(content: bytes) -> Change:
    """/resident.txt becomes hiberfil.sys, with clusters of its own."""

    def change(volume: Surgery) -> None:
        number = volume.rename(5, "resident.txt", "hiberfil.sys")
        cluster = volume.free_cluster(2)
        volume.make_room(number, [cluster, cluster + 1])
        volume.data[cluster * 4096 : cluster * 4096 + 8192] = content.ljust(8192, b"\0")

    return change


def encrypted_hiberfil(volume: Surgery) -> None:
    number = volume.rename(5, "resident.txt", "hiberfil.sys")
    volume.edit(number, lambda record: struct.pack_into("<H", record, attribute(record, DATA) + 12, 0x4000))


def mirror_field(volume: Surgery) -> None:
    """Record 1 counts its links otherwise in the mirror than in the table."""
    volume.data[struct.unpack_from("<Q", FEATURES, 56)[0] * 4096 + 1024 + 18] ^= 1


def mirror_elsewhere(volume: Surgery) -> None:
    """The boot sector names another place for $MFTMirr than its record does."""
    struct.pack_into("<Q", volume.data, 56, struct.unpack_from("<Q", FEATURES, 56)[0] - 1)


def first_record_torn(volume: Surgery) -> None:
    """$MFT's own record can't be read; our reader would go on with the mirror's."""
    volume.data[volume.place(0) + 510] ^= 0xFF


STATES: dict[str, tuple[Change, str]] = {
    "dirty bit": (in_volume_information(10, "<H", 1), "volume-dirty"),
    "chkdsk in its middle": (in_volume_information(10, "<H", 0x4000), "chkdsk-underway"),
    "version 3.0": (in_volume_information(8, "<H", 0x0003), "ntfs-version"),
    "version 1.2": (in_volume_information(8, "<H", 0x0201), "ntfs-version"),
    "log unclean": (with_log(restart((1, 1), 0)), "log-unclean"),
    "log 2.0, unclean": (with_log(restart((2, 0), 0)), "log-version"),
    "log 2.0, clean": (with_log(restart((2, 0), 2)), "log-version"),
    "log garbage": (with_log(b"garbage" * 100), "log-damaged"),
    "log torn": (with_log(torn(restart((1, 1), 2))), "log-damaged"),
    "log 0.9": (with_log(restart((0, 9), 2)), "log-damaged"),
    "mirror differs": (mirror_field, "mft-mirror-differs"),
    "mirror elsewhere": (mirror_elsewhere, "mft-mirror-differs"),
    "first record torn": (first_record_torn, "mft-mirror-differs"),
    "hibernated": (hibernated(b"hibr"), "hibernated"),
    "hibernated, older": (hibernated(b"HIBR"), "hibernated"),
    "resuming": (hibernated(b"RSTR"), "hibernated"),
    "resumed": (hibernated(b"wake"), "hibernation-resumed"),
    "hiberfil too short": (lambda volume: volume.rename(5, "resident.txt", "hiberfil.sys") and None, "hibernated"),
    "hiberfil encrypted": (encrypted_hiberfil, "hibernation-unknown"),
}


@pytest.mark.parametrize("state", STATES)
def test_states_of_a_volume_that_are_refused(state: str) -> None:
    change, code = STATES[state]
    assert refusal(changed(change)).code == code


@pytest.mark.parametrize(
    "change",
    [lambda volume: None, with_log(restart((1, 1), 2)), with_log(restart((1, 1), 0, 0xFFFF)), hibernated(b"")],
)
def test_volumes_that_are_fit(change: Change) -> None:
    device = MemoryDevice(changed(change))
    refuse_unfit_volume(device, PLAIN, NtfsFilesystem(device), room=4096)


def test_what_lies_unused_in_a_mirrored_record_may_differ() -> None:
    volume = Surgery(FEATURES)
    at = struct.unpack_from("<Q", FEATURES, 56)[0] * 4096 + 2 * 1024 + 900
    volume.data[at : at + 8] = b"leftover"
    device = MemoryDevice(volume.data)
    refuse_unfit_volume(device, PLAIN, NtfsFilesystem(device))


@pytest.mark.parametrize("missing", [1024, 30 * 4096])
def test_a_file_system_larger_than_its_partition(missing: int) -> None:
    cut = FEATURES[:-missing]
    error = refusal(cut, volume=Volume(0, 0, len(cut), "none", "", None, "data", filesystem="ntfs"))
    assert error.code == "volume-cut-off"


def test_a_partition_that_leaves_the_disk() -> None:
    assert refusal(FEATURES, volume=Volume(0, 0, 1 << 30, "mbr", "0x07", None, "data")).code == "partition-cut-off"


def test_a_real_disk_that_was_cut_off() -> None:
    disk = FileDevice(data_file("ntfs/google__grr/ntfs_img.dd.xz"))
    (volume,) = read_volumes(disk).volumes
    device = volume_device(disk, volume)
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(device, volume, NtfsFilesystem(device))
    assert caught.value.code == "partition-cut-off"


def test_a_volume_without_room() -> None:
    record = Surgery(FEATURES).record(6)
    first, _ = runs(record, attribute(record, DATA))[0]
    bitmap = int.from_bytes(FEATURES[first * 4096 : first * 4096 + 160], "little")
    free = sum(not bitmap >> cluster & 1 for cluster in range(1279)) * 4096
    device = MemoryDevice(FEATURES)
    refuse_unfit_volume(device, PLAIN, NtfsFilesystem(device), room=free)
    error = refusal(FEATURES, room=free + 1)
    assert (error.code, error.found) == ("volume-full", f"{free} bytes")


def test_room_is_counted_only_where_it_is_asked_for() -> None:
    device = MemoryDevice(FEATURES)
    fs = NtfsFilesystem(device)
    record = Surgery(FEATURES).record(6)
    first, _ = runs(record, attribute(record, DATA))[0]
    read: list[int] = []
    plain = device.read_at
    device.read_at = lambda offset, length: read.append(offset) or plain(offset, length)  # type: ignore[method-assign,func-returns-value]
    refuse_unfit_volume(device, PLAIN, fs)
    assert first * 4096 not in read
    refuse_unfit_volume(device, PLAIN, fs, room=1)
    assert first * 4096 in read


def unopened(disk: MemoryDevice, code: str) -> None:
    (volume,) = read_volumes(disk).volumes
    before = bytes(disk.data)
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(volume_device(disk, volume), volume, None)
    assert caught.value.code == code
    assert caught.value.hint
    assert disk.data == before


@pytest.mark.parametrize("kind", [LDM_DATA, STORAGE_SPACES])
def test_parts_of_dynamic_disks_and_storage_pools(kind: str) -> None:
    unopened(gpt_disk([(kind, 64, 1000, "part")]), "container-member")


def test_a_dynamic_disk_with_an_mbr() -> None:
    volume = Volume(0, 0, len(FEATURES), "mbr", "0x42", None, "data", container="ldm")
    assert refusal(FEATURES, volume=volume).code == "container-member"


TO_GO = uuid.UUID("4967d63b-2e29-4ad8-8399-f6a339e3d001").bytes_le


@pytest.mark.parametrize(
    ("marks", "code"),
    [
        ([(3, b"-FVE-FS-")], "encrypted"),
        ([(3, b"MSWIN4.1"), (424, TO_GO)], "encrypted"),
        ([(3, b"ReFS\0\0\0\0"), (16, b"FSRS")], "filesystem-not-writable"),
        ([(3, b"EXFAT   ")], "filesystem-not-writable"),
        ([], "filesystem-not-writable"),
    ],
)
def test_volumes_that_are_not_ntfs(marks: list[tuple[int, bytes]], code: str) -> None:
    disk = gpt_disk([(BASIC_DATA, 64, 1000, "data")])
    for offset, mark in marks:
        disk.data[64 * 512 + offset : 64 * 512 + offset + len(mark)] = mark
    unopened(disk, code)


@pytest.mark.parametrize("name", ["aes-xts_128", "suspended"])
def test_real_bitlocker_volumes(name: str) -> None:
    disk = FileDevice(data_file(f"bitlocker/fox-it__dissect.fve/{name}.bin.gz"))
    (volume,) = read_volumes(disk).volumes
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(disk, volume, None)
    assert caught.value.code == "encrypted"


def test_another_kind_of_file_system() -> None:
    class Other:
        kind = "fat"

    fs: GuestFilesystem = Other()  # type: ignore[assignment]
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_volume(MemoryDevice(FEATURES), PLAIN, fs)
    assert caught.value.code == "filesystem-not-writable"


# --- paths ---------------------------------------------------------------------------------------------------------


def path_refusal(path: str, data: bytes = FEATURES, *, structural: bool = False) -> VhdtoolError:
    device = MemoryDevice(data)
    fs = NtfsFilesystem(device)
    before = hashlib.sha256(device.data).digest()
    with pytest.raises(VhdtoolError) as caught:
        refuse_unfit_path(fs, path, structural=structural)
    assert hashlib.sha256(device.data).digest() == before
    return caught.value


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/junction", "reparse-on-path"),
        ("/junction/Sub/File.txt", "reparse-on-path"),
        ("/relative", "reparse-on-path"),
        ("/other volume/x", "reparse-on-path"),
        ("/network", "reparse-on-path"),
        ("/loop", "reparse-on-path"),
        ("/wof-xpress4k", "file-wof-compressed"),
        ("/wof-lzx", "file-wof-compressed"),
        ("/dedup", "file-deduplicated"),
        ("/compressed/words.txt", "file-compressed"),
        ("/" + features.SPARSE, "file-sparse"),
        ("/$MFT", "file-system-file"),
        ("/$Extend/$Quota", "file-system-file"),
        ("/$Extend/new", "file-system-file"),
    ],
)
def test_paths_that_are_refused(path: str, code: str) -> None:
    error = path_refusal(path)
    assert isinstance(error, RefusedError)
    assert (error.code, error.exit_code) == (code, 4)
    assert error.hint


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        (0x80000008, "file-in-wim"),
        (0x9000001A, "file-in-cloud"),
        (0x9000701A, "file-in-cloud"),
        (0xC0000004, "file-reparse"),
        (0x80000023, "file-reparse"),
    ],
)
def test_tags_of_filter_drivers(tag: int, code: str) -> None:
    volume = Surgery(FEATURES)

    def change(record: bytearray) -> None:
        struct.pack_into("<I", record, value(record, attribute(record, 0xC0)), tag)

    volume.edit(segment("/dedup"), change)
    assert path_refusal("/dedup", bytes(volume.data)).code == code


def in_attribute(number: int, type_: int, offset: int, content: int) -> bytes:
    volume = Surgery(FEATURES)
    volume.edit(number, lambda record: struct.pack_into("<H", record, attribute(record, type_) + offset, content))
    return bytes(volume.data)


@pytest.mark.parametrize(
    ("type_", "offset", "content", "code"),
    [
        (DATA, 12, 0x4000, "file-encrypted"),
        (STANDARD, 24 + 32, 0x4000, "file-encrypted"),
        (DATA, 12, 0x0001, "file-compressed"),
        (STANDARD, 24 + 32, 0x0800, "file-compressed"),
        (DATA, 12, 0x8000, "file-sparse"),
        (STANDARD, 24 + 32, 0x0200, "file-sparse"),
    ],
)
def test_each_way_to_say_how_a_file_is_stored(type_: int, offset: int, content: int, code: str) -> None:
    data = in_attribute(segment("/plain.bin"), type_, offset, content)
    assert path_refusal("/plain.bin", data).code == code


def test_an_encrypted_directory() -> None:
    data = in_attribute(segment("/Directory/Sub"), STANDARD, 24 + 32, 0x4000)
    assert path_refusal("/Directory/Sub/new.txt", data).code == "directory-encrypted"
    refuse_unfit_path(NtfsFilesystem(MemoryDevice(data)), "/Directory/Sub/File.txt")


@pytest.mark.parametrize(
    "path",
    ["/", "/plain.bin", "\\PLAIN.BIN", "/resident.txt", "/Directory/Sub", "/Directory/Sub/new/deeper.txt", "/new"],
)
def test_paths_that_are_fit(path: str) -> None:
    refuse_unfit_path(NtfsFilesystem(MemoryDevice(FEATURES)), path, structural=True)


def test_a_file_in_the_path_of_another() -> None:
    error = path_refusal("/plain.bin/below")
    assert isinstance(error, NotFoundError)
    assert error.code == "not-a-directory"


def test_dots_in_a_path() -> None:
    error = path_refusal("/Directory/../plain.bin")
    assert isinstance(error, UsageError)
    assert error.code == "path-with-dots"


def test_a_name_in_two_spellings() -> None:
    volume = Surgery(FEATURES)
    names = sorted(name for name in features.NAMES if len(name) == 3 and name.isascii())
    first, second = names[:2]
    volume.rename(segment("/names"), second, first[0] + first[1:].swapcase())
    spelled = first[0] + first[1:].swapcase()
    assert spelled != first
    error = path_refusal(f"/names/{first}", bytes(volume.data))
    assert error.code == "name-ambiguous"


def test_attribute_lists_stop_structural_work_only() -> None:
    refuse_unfit_path(NtfsFilesystem(MemoryDevice(FEATURES)), features.SPILLED)
    assert path_refusal(features.SPILLED, structural=True).code == "file-attribute-list"


def test_an_entry_that_leads_to_another_file_is_damage() -> None:
    volume = Surgery(FEATURES)
    volume.edit(
        segment("/plain.bin"),
        lambda record: struct.pack_into("<B", record, value(record, attribute(record, FILE_NAME)) + 66, 0x71),
    )
    assert isinstance(path_refusal("/plain.bin", bytes(volume.data)), DamagedError)


def test_a_hive_and_its_logs() -> None:
    volume = Surgery(FEATURES)
    logged = volume.rename(5, "plain.bin", "SYST.LOG2")
    data = bytes(volume.data)
    refuse_unfit_hive(NtfsFilesystem(MemoryDevice(data)), "/SYST")  # neither is a problem where nothing is wrong
    volume.edit(logged, lambda record: struct.pack_into("<H", record, attribute(record, DATA) + 12, 0x8000))
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_hive(NtfsFilesystem(MemoryDevice(volume.data)), "/SYST")
    assert (caught.value.code, caught.value.path) == ("file-sparse", "/SYST.LOG2")
    with pytest.raises(RefusedError) as caught:
        refuse_unfit_hive(NtfsFilesystem(MemoryDevice(FEATURES)), "/wof-lzx")
    assert caught.value.code == "file-wof-compressed"
