from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from tests.fs import features
from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError, NotFoundError, UnsupportedError, VhdtoolError
from vhdtool.fs.ntfs import NtfsFilesystem

VOLUME = features.volume()


@pytest.fixture
def fs() -> NtfsFilesystem:
    return NtfsFilesystem(MemoryDevice(VOLUME))


def content(fs: NtfsFilesystem, path: str) -> bytes:
    file = fs.open(path)
    return file.read_at(0, file.size + 10)


def test_label_and_flags(fs: NtfsFilesystem) -> None:
    assert fs.label == features.LABEL
    assert fs.volume_flags & 1 == 0


@pytest.mark.parametrize("path", features.FILES)
def test_plain_resident_and_compressed_files(fs: NtfsFilesystem, path: str) -> None:
    assert content(fs, path) == features.FILES[path]


def test_sparse_file(fs: NtfsFilesystem) -> None:
    assert content(fs, "/" + features.SPARSE) == features.sparse_content()
    stat = fs.stat("/" + features.SPARSE)
    assert stat is not None
    assert (stat.storage, stat.size) == ("sparse", features.SPARSE_SIZE)


def test_attributes_in_other_records(fs: NtfsFilesystem) -> None:
    assert content(fs, features.SPILLED) == features.FILES["/plain.bin"]
    assert len(fs.list("/hardlinks")) == features.HARD_LINKS
    assert {entry.record for entry in fs.list("/hardlinks")} == {fs.stat(features.SPILLED).record}  # type: ignore[union-attr]


@pytest.mark.parametrize("path", features.WOF)
def test_wof_files(fs: NtfsFilesystem, path: str) -> None:
    file = fs.open(path)
    assert file.size == len(features.WOF_CONTENT)
    assert file.read_at(0, file.size) == features.WOF_CONTENT
    assert file.read_at(32760, 20) == features.WOF_CONTENT[32760:32780]
    stat = fs.stat(path)
    assert stat is not None
    assert stat.storage == path[1:]


@pytest.mark.parametrize("path", ["/wof-unknown", "/wof-wim", "/dedup"])
def test_bytes_that_cannot_be_given_are_refused(fs: NtfsFilesystem, path: str) -> None:
    with pytest.raises(UnsupportedError):
        fs.open(path)
    stat = fs.stat(path)
    assert stat is not None
    assert stat.storage is not None
    assert stat.storage.startswith("reparse-0x8000001")


def test_a_lost_compressed_stream(fs: NtfsFilesystem) -> None:
    with pytest.raises(DamagedError):
        fs.open("/wof-lost")


@pytest.mark.parametrize("path", ["/relative", "/Directory/up", "/rooted", "/absolute", "/junction/SUB/file.TXT"])
def test_links_are_followed_inside_the_volume(fs: NtfsFilesystem, path: str) -> None:
    file = fs.open(path)
    assert (file.path, file.read_at(0, 100)) == ("/Directory/Sub/File.txt", b"reached")


def test_links_are_seen_as_links(fs: NtfsFilesystem) -> None:
    for path, (target, _) in features.LINKS.items():
        stat = fs.stat(path)
        assert stat is not None
        assert (stat.kind, stat.link_target) == ("symlink", target.removeprefix("\\??\\"))
    listed = {entry.name: entry.link_target for entry in fs.list("/") if entry.kind == "symlink"}
    assert listed["relative"] == "directory\\sub\\file.txt"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/loop", "too-many-links"), ("/network", "link-leaves-volume"), ("/other volume/x", "link-leaves-volume")],
)
def test_links_that_lead_nowhere(fs: NtfsFilesystem, path: str, code: str) -> None:
    with pytest.raises(VhdtoolError) as caught:
        fs.open(path)
    assert caught.value.code == code


def test_every_name_is_found_in_every_case(fs: NtfsFilesystem) -> None:
    assert sorted(entry.name for entry in fs.list("/names")) == sorted(features.NAMES)
    for name in features.NAMES:
        assert content(fs, f"\\NAMES\\{name}") == name.encode()
    assert fs.stat("/names/nothing") is None
    assert fs.stat("/names/STRASSE") is None


def test_short_names_resolve_and_are_not_listed(fs: NtfsFilesystem) -> None:
    assert content(fs, f"/{features.SHORT_NAME}") == b"long and short"
    names = [entry.name for entry in fs.list("/")]
    assert features.LONG_NAME in names
    assert features.SHORT_NAME not in names
    assert "." not in names


def test_the_root_and_dots(fs: NtfsFilesystem) -> None:
    root = fs.stat("/")
    assert root is not None
    assert (root.kind, root.record) == ("directory", 5)
    assert fs.open("/Directory/../Directory/./Sub/File.txt").path == "/Directory/Sub/File.txt"
    assert fs.stat("/../../resident.txt") is not None


def test_errors_of_names(fs: NtfsFilesystem) -> None:
    assert fs.stat("/resident.txt/below") is None
    for call, path, code in (
        (fs.open, "/none", "no-such-file"),
        (fs.open, "/Directory", "is-a-directory"),
        (fs.list, "/none", "no-such-file"),
        (fs.list, "/resident.txt", "not-a-directory"),
    ):
        with pytest.raises(NotFoundError) as caught:
            call(path)
        assert caught.value.code == code


def test_facts_of_a_file(fs: NtfsFilesystem) -> None:
    stat = fs.stat("/PLAIN.bin")
    assert stat is not None
    assert (stat.name, stat.kind, stat.size) == ("plain.bin", "file", len(features.FILES["/plain.bin"]))
    assert stat.modified is not None
    assert datetime(2020, 1, 1, tzinfo=UTC) < stat.modified
    listed = {entry.name: entry for entry in fs.list("/")}
    assert listed["plain.bin"].size == stat.size
    assert listed["plain.bin"].modified == stat.modified
    assert listed["wof-lzx"].storage == "reparse-0x80000017"


def test_extents_say_where_the_bytes_lie(fs: NtfsFilesystem) -> None:
    extents = fs.open("/plain.bin").extents()
    found = b"".join(VOLUME[each.volume_offset : each.volume_offset + each.length] for each in extents)
    assert found == features.FILES["/plain.bin"]
    assert fs.open("/resident.txt").extents() == ()
    assert fs.open("/compressed/words.txt").extents() == ()
    assert fs.open("/wof-lzx").extents() == ()


def record_at(fs: NtfsFilesystem, path: str) -> tuple[int, int]:
    """Where the MFT record of ``path`` lies on the volume, and its size."""
    stat = fs.stat(path)
    assert stat is not None
    assert stat.record is not None
    offset = stat.record * fs.mft.geometry.record_size
    for extent in fs.open("/$MFT").extents():
        if extent.file_offset <= offset < extent.file_offset + extent.length:
            return extent.volume_offset + offset - extent.file_offset, fs.mft.geometry.record_size
    raise AssertionError


def data_attribute(volume: bytes, at: int) -> int:
    """Walk the attributes of a record by the NTFS layout to its $DATA."""
    at += struct.unpack_from("<H", volume, at + 20)[0]
    while struct.unpack_from("<I", volume, at)[0] != 0x80:
        at += struct.unpack_from("<I", volume, at + 4)[0]
    return at


def test_encrypted_files_are_refused(fs: NtfsFilesystem) -> None:
    volume = bytearray(VOLUME)
    at = data_attribute(VOLUME, record_at(fs, "/plain.bin")[0])
    struct.pack_into("<H", volume, at + 12, 0x4000)
    with pytest.raises(UnsupportedError) as caught:
        NtfsFilesystem(MemoryDevice(volume)).open("/plain.bin")
    assert caught.value.code == "file-encrypted"


def test_beyond_the_valid_data_length_are_zeros(fs: NtfsFilesystem) -> None:
    volume = bytearray(VOLUME)
    at = data_attribute(VOLUME, record_at(fs, "/plain.bin")[0])
    struct.pack_into("<Q", volume, at + 56, 1000)
    plain = features.FILES["/plain.bin"]
    assert content(NtfsFilesystem(MemoryDevice(volume)), "/plain.bin") == plain[:1000].ljust(len(plain), b"\0")


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [(64, "<B", 0x99), (64, "<B", 0x00), (65, "<B", 0xFF), (24, "<Q", 1 << 40), (16, "<Q", 7), (48, "<q", -5)],
)
def test_lying_run_lists_and_sizes(fs: NtfsFilesystem, offset: int, layout: str, value: int) -> None:
    volume = bytearray(VOLUME)
    at = data_attribute(VOLUME, record_at(fs, "/plain.bin")[0])
    struct.pack_into(layout, volume, at + offset, value)
    with pytest.raises(DamagedError):
        content(NtfsFilesystem(MemoryDevice(volume)), "/plain.bin")


def test_the_mirror_replaces_a_damaged_first_record() -> None:
    volume = bytearray(VOLUME)
    cluster = struct.unpack_from("<Q", VOLUME, 48)[0]
    volume[cluster * 4096 : cluster * 4096 + 4] = b"BAAD"
    assert content(NtfsFilesystem(MemoryDevice(volume)), "/resident.txt") == b"resident"


def test_stale_references_are_damage(fs: NtfsFilesystem) -> None:
    at, _ = record_at(fs, "/resident.txt")
    volume = bytearray(VOLUME)
    struct.pack_into("<H", volume, at + 16, 0x7777)
    with pytest.raises(DamagedError, match="stale"):
        NtfsFilesystem(MemoryDevice(volume)).open("/resident.txt")


@pytest.mark.parametrize("offset", [3, 11, 13, 40, 48, 64])
def test_damaged_boot_sectors(offset: int) -> None:
    volume = bytearray(VOLUME)
    volume[offset : offset + 2] = b"\xff\xff"
    if offset == 48:
        volume[48:56] = b"\xff" * 8
    if offset == 40:
        volume[40:48] = bytes(8)
    with pytest.raises(DamagedError):
        NtfsFilesystem(MemoryDevice(volume)).open("/plain.bin")


@pytest.mark.parametrize("size", [0, 100, 512, 4096, 20000, 200_000])
def test_truncated_volumes(size: int) -> None:
    with pytest.raises(DamagedError):
        content(NtfsFilesystem(MemoryDevice(VOLUME[:size])), "/wof-lzx")


def test_a_look_up_reads_little() -> None:
    device = MemoryDevice(VOLUME)
    NtfsFilesystem(device).open("/Directory/Sub/File.txt").read_at(0, 7)
    assert device.bytes_read < 40_000


def test_an_entry_that_leads_to_another_file_is_damage(fs: NtfsFilesystem) -> None:
    """The names of two records are exchanged on the disk: neither is given for the other."""
    first, size = record_at(fs, "/names/" + features.NAMES[0])
    second, _ = record_at(fs, "/names/" + features.NAMES[1])
    volume = bytearray(VOLUME)
    volume[first : first + size], volume[second : second + size] = (
        VOLUME[second : second + size],
        VOLUME[first : first + size],
    )
    with pytest.raises(DamagedError):
        NtfsFilesystem(MemoryDevice(volume)).open("/names/" + features.NAMES[0])
