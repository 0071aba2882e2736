"""What dissect.ntfs must say of the files of a changed volume, however their names are spelled."""

from __future__ import annotations

import hashlib
import importlib
import io
import struct
import tracemalloc

import pytest

from tests.fs import features
from tests.volume.memory import MemoryDevice
from vhdtool.errors import OpinionError
from vhdtool.fs.directory_opinion import PIECE, FileExpectation, confirm_files
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.volume.partitions import Volume

ntfs = importlib.import_module("dissect.ntfs")
IMAGE = features.volume()
VOLUME = Volume(3, 0, len(IMAGE), "none", "", None, "data", filesystem="ntfs")
RECORD_SIZE = 1024


def confirm(expected, image=IMAGE):
    return confirm_files(MemoryDevice(image), VOLUME, expected)


def refused(expected, image=IMAGE):
    with pytest.raises(OpinionError) as caught:
        confirm(expected if isinstance(expected, list) else [expected], image)
    assert caught.value.code == "second-opinion-files"
    assert caught.value.hint
    return caught.value.message


def file(path, content):
    return FileExpectation(path, "file", len(content), hashlib.sha256(content).hexdigest())


def name_units(name):
    return name.encode("utf-16-le", "surrogatepass")


def test_files_of_every_kind_of_storage():
    plain = {path: content for path, content in features.FILES.items() if not path.endswith(features.LONG_NAME)}
    plain[f"/{features.SPARSE}"] = features.sparse_content()
    verdict = confirm([file(path, content) for path, content in plain.items()])
    assert (verdict.reader, verdict.volume, verdict.confirmed) == ("dissect.ntfs", 3, len(plain))
    assert verdict.version
    assert verdict.bytes_hashed == sum(map(len, plain.values()))


def test_names_in_any_case_and_with_both_slashes():
    confirm([file("\\DIRECTORY\\sub\\FILE.TXT", b"reached"), FileExpectation("/directory/SUB", "directory")])
    confirm([FileExpectation("/", "directory")])
    confirm([file(f"/{features.LONG_NAME}", b"long and short"), file(f"/{features.SHORT_NAME}", b"long and short")])


def test_names_that_are_not_ascii():
    """The library's own look-up misses many of them: that fault is why names are looked up another way."""
    volume = ntfs.NTFS(io.BytesIO(IMAGE))
    missed = []
    for name in features.NAMES:
        try:
            volume.mft.get(f"names/{name}")
        except ntfs.exceptions.FileNotFoundError:
            missed.append(name)
    assert missed
    confirm([FileExpectation(f"/names/{name}", "file") for name in features.NAMES])
    refused(FileExpectation(f"/names/{missed[0]}", "absent"))


def test_what_lies_in_a_freed_index_block_is_not_there():
    """The library's own listing shows all blocks, used or not."""
    image = bytearray(IMAGE)
    record = NtfsFilesystem(MemoryDevice(IMAGE)).stat("/names").record
    index = ntfs.NTFS(io.BytesIO(IMAGE)).mft.get(record).index("$I30")
    lost = next(entry for entry in index.root.entries() if entry.is_node)
    names = [entry.attribute.file_name for entry in index.index_buffer(lost.node_vcn).entries() if not entry.is_end]
    # The first entry with a subtree now says that it has none: the names there are in no tree any more.
    place = IMAGE.index(lost.header.dumps() + lost.buf[:66])
    assert image[place + 12] & 1
    image[place + 12] &= 0xFE
    listed = ntfs.NTFS(io.BytesIO(bytes(image))).mft.get(record).listdir()
    assert set(names) <= set(listed)
    confirm([FileExpectation(f"/names/{names[0]}", "absent")], bytes(image))


@pytest.mark.parametrize(
    ("expected", "what"),
    [
        (FileExpectation("/nothing", "file"), "not there"),
        (FileExpectation("/nothing/below", "directory"), "not there"),
        (FileExpectation("/plain.bin/below", "file"), "not there"),
        (FileExpectation("/plain.bin", "absent"), "still there"),
        (FileExpectation("/Directory", "absent"), "still there"),
        (FileExpectation("/Directory", "file"), "a directory"),
        (FileExpectation("/plain.bin", "directory"), "a file"),
        (FileExpectation("/plain.bin", "file", 5), "not 5"),
        (file("/resident.txt", b"resideny"), "other bytes"),
        (FileExpectation("/wof-lzx", "file", len(features.WOF_CONTENT)), "kept in another way"),
    ],
)
def test_another_file_than_expected(expected, what):
    assert what in refused([FileExpectation("/empty", "file"), expected])


def test_absent_files():
    assert confirm([FileExpectation(path, "absent") for path in ("/no", "/no/no", "/plain.bin/no")]).confirmed == 3
    assert confirm([]).confirmed == 0


# --- one change behind our back -------------------------------------------------------------------------------------


def record_place(segment):
    """Where an MFT record lies in the image."""
    for place in range(0, len(IMAGE), RECORD_SIZE):
        if IMAGE[place : place + 4] == b"FILE" and struct.unpack_from("<I", IMAGE, place + 44)[0] == segment:
            return place
    raise AssertionError(segment)


def entry_place(parent, name):
    """Where the directory entry with a name lies: the key that starts with the directory's reference."""
    at = -1
    while True:
        at = IMAGE.index(name_units(name), at + 1)
        key = at - 66
        in_index = struct.unpack_from("<HH", IMAGE, key - 8)[0] >= 66 + 2 * len(name)
        if struct.unpack_from("<Q", IMAGE, key)[0] & 0xFFFFFFFFFFFF == parent and in_index and IMAGE[key - 16 + 6]:
            entry = key - 16
            if struct.unpack_from("<H", IMAGE, entry + 10)[0] == 66 + 2 * len(name):
                return entry


@pytest.mark.parametrize("what", ["reference", "sequence", "name", "record name", "record gone", "content", "size"])
def test_one_bit_of_a_file(what):
    stat = NtfsFilesystem(MemoryDevice(IMAGE)).stat("/plain.bin")
    entry, record = entry_place(5, "plain.bin"), record_place(stat.record)
    content = features.FILES["/plain.bin"]
    named = IMAGE.index(name_units("plain.bin"), record)
    assert named < record + RECORD_SIZE
    place = {
        "reference": entry,
        "sequence": entry + 6,
        "name": entry + 16 + 66,
        "record name": named + 2,
        "record gone": record + 22,
        "content": IMAGE.index(content[:64]) + 1000,
        "size": IMAGE.index(struct.pack("<Q", len(content)), named + 18),
    }
    broken = bytearray(IMAGE)
    broken[place[what]] ^= 1
    confirm([file("/plain.bin", content)])
    refused(file("/plain.bin", content), bytes(broken))


def test_names_out_of_order_and_a_broken_volume():
    broken = bytearray(IMAGE)
    entry = entry_place(5, "plain.bin")
    broken[entry + 16 + 66] = ord("$")
    assert "order" in refused(FileExpectation("/resident.txt", "file"), bytes(broken))
    assert "can't be read" in refused(FileExpectation("/", "directory"), bytes(len(IMAGE)))
    assert "can't be read" in refused(FileExpectation("/", "directory"), IMAGE[: 1 << 16])


def test_a_tree_that_leads_in_a_circle_ends():
    volume = ntfs.NTFS(io.BytesIO(IMAGE))
    record = NtfsFilesystem(MemoryDevice(IMAGE)).stat("/names").record
    index = volume.mft.get(record).index("$I30")
    first = next(index.root.entries())
    block = next(iter(index.index_buffer(first.node_vcn).entries()))
    broken = bytearray(IMAGE)
    where = IMAGE.index(block.buf[:80]) - 16
    length = struct.unpack_from("<H", IMAGE, where + 8)[0]
    # The first entry of the first block takes its last 8 bytes for the block below it: the block itself.
    broken[where + 12] |= 1
    broken[where + length - 8 : where + length] = struct.pack("<Q", first.node_vcn)
    name = "\x01"
    assert "can't be read" in refused(FileExpectation(f"/names/{name}", "absent"), bytes(broken))


def test_memory_does_not_grow_with_the_file(monkeypatch):
    monkeypatch.setattr("vhdtool.fs.directory_opinion.PIECE", 4096)
    assert PIECE == 1 << 20
    content = features.sparse_content()
    device, expected = MemoryDevice(IMAGE), [file(f"/{features.SPARSE}", content)]
    confirm_files(device, VOLUME, expected)
    tracemalloc.start()
    confirm_files(device, VOLUME, expected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(content) + (1 << 20)  # the table of upper case letters has 2.3 MB
