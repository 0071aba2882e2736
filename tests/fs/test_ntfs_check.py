from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.data_files import data_file
from tests.fs import features
from tests.fs.ntfs_surgery import (
    BITMAP,
    DATA,
    FILE_NAME,
    KEY,
    LIST,
    STANDARD,
    VOLUME,
    Surgery,
    attribute,
    attributes,
    differing,
    entries,
    runs,
    u16,
    u32,
    value,
)
from tests.fs.test_ntfs import VOLUME as FEATURES
from tests.volume.memory import MemoryDevice
from vhdtool.disk.chain import open_disk
from vhdtool.disk.device import FileDevice
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import MAX_PROBLEMS, check_touched, check_volume
from vhdtool.fs.ntfs_check_clusters import bit_runs, joined, meeting, without
from vhdtool.volume.partitions import read_volumes, volume_device

Change = Callable[[Surgery], None]

_FS = NtfsFilesystem(MemoryDevice(FEATURES))


def segment(path: str) -> int:
    stat = _FS.stat(path)
    assert stat is not None
    assert stat.record is not None
    return stat.record


PLAIN, NAMES, SPILLED, SUB = map(segment, ("/plain.bin", "/names", features.SPILLED, "/Directory/Sub"))
RESIDENT, SPARSE, LONG = map(segment, ("/resident.txt", "/" + features.SPARSE, "/" + features.LONG_NAME))


def in_record(number: int, offset: int, layout: str, content: int) -> Change:
    return lambda volume: volume.edit(number, lambda record: struct.pack_into(layout, record, offset, content))


def in_attribute(number: int, type_: int, offset: int, layout: str, content: int) -> Change:
    def change(record: bytearray) -> None:
        struct.pack_into(layout, record, attribute(record, type_) + offset, content)

    return lambda volume: volume.edit(number, change)


def in_name(number: int, offset: int, layout: str, content: int, which: int = 0) -> Change:
    def change(record: bytearray) -> None:
        struct.pack_into(layout, record, value(record, attribute(record, FILE_NAME, which)) + offset, content)

    return lambda volume: volume.edit(number, change)


def in_entry(directory: int, name: str, offset: int, layout: str, content: int) -> Change:
    return lambda volume: volume.edit_entry(
        directory, name, lambda data, at: struct.pack_into(layout, data, at + offset, content)
    )


def at_place(place: Callable[[Surgery], int], content: bytes) -> Change:
    def change(volume: Surgery) -> None:
        at = place(volume)
        volume.data[at : at + len(content)] = content

    return change


def swap_attributes(volume: Surgery) -> None:
    """$STANDARD_INFORMATION behind what follows it."""

    def change(record: bytearray) -> None:
        first, second, *_ = attributes(record)
        end = second + u32(record, second + 4)
        record[first:end] = record[second:end] + record[first:second]

    volume.edit(PLAIN, change)


def same_ids(volume: Surgery) -> None:
    def change(record: bytearray) -> None:
        first, second, *_ = attributes(record)
        record[second + 14 : second + 16] = record[first + 14 : first + 16]

    volume.edit(PLAIN, change)


def move_data(volume: Surgery, cluster: int) -> None:
    """The first run of /plain.bin begins at another cluster."""

    def change(record: bytearray) -> None:
        at = attribute(record, DATA)
        at += u16(record, at + 32)
        place = at + 1 + (record[at] & 15)
        record[place : place + (record[at] >> 4)] = cluster.to_bytes(record[at] >> 4, "little")

    volume.edit(PLAIN, change)


def onto_another_file(volume: Surgery) -> None:
    record = volume.record(SPARSE)
    move_data(volume, runs(record, attribute(record, DATA))[0][0])


def onto_free_clusters(volume: Surgery) -> None:
    move_data(volume, volume.free_cluster(8))


def used_cluster(volume: Surgery) -> int:
    record = volume.record(PLAIN)
    return runs(record, attribute(record, DATA))[0][0]


def swap_entries(volume: Surgery) -> None:
    """Two neighbours in a leaf of /names change places: the order of the keys is broken."""
    for block in volume.blocks(NAMES):
        data = volume.data
        if not data[block + 24 + 12] & 1:

            def change(node: bytearray) -> None:
                first, second, third, *_ = entries(node, 24)
                node[first:third] = node[second:third] + node[first:second]

            volume.edit_block(block, change)
            return
    raise AssertionError


def swap_security_ids(volume: Surgery) -> None:
    """Two keys of $SII, which are numbers, change places."""

    def change(record: bytearray) -> None:
        header = value(record, attribute(record, 0x90, 0, "$SII")) + 16
        first, second, *_ = entries(record, header)
        keys = [record[at + 16 : at + 20] for at in (first, second)]
        record[first + 16 : first + 20], record[second + 16 : second + 20] = keys[1], keys[0]

    volume.edit(9, change)


def drop_entry(volume: Surgery) -> None:
    """A name is taken out of a leaf, and the record keeps it."""

    def change(node: bytearray) -> None:
        first, second, *_, end = entries(node, 24)
        end += u16(node, end + 8)
        struct.pack_into("<I", node, 24 + 4, u32(node, 24 + 4) - (second - first))
        node[first:end] = node[second:end] + bytes(second - first)

    volume.edit_block(next(at for at in volume.blocks(NAMES) if not volume.data[at + 36] & 1), change)


def other_child(volume: Surgery) -> None:
    """A node of /names leads to one block twice."""

    def change(node: bytearray) -> None:
        first, second, *_ = entries(node, 24)
        places = [at + u16(node, at + 8) - 8 for at in (first, second)]
        node[places[1] : places[1] + 8] = node[places[0] : places[0] + 8]

    volume.edit_block(next(at for at in volume.blocks(NAMES) if volume.data[at + 36] & 1), change)


def free_block(volume: Surgery) -> None:
    def change(record: bytearray) -> None:
        record[value(record, attribute(record, BITMAP))] ^= 1

    volume.edit(NAMES, change)


def list_entry(volume: Surgery) -> None:
    """The attribute list of a file, in clusters of its own, has another id for its first attribute."""
    record = volume.record(SPILLED)
    first, _ = runs(record, attribute(record, LIST))[0]
    struct.pack_into("<H", volume.data, first * volume.cluster + 24, 0x777)


def lower_case(number: int, which: int = 0) -> Change:
    """The first letter of a name becomes a capital or the other way round, in the record alone."""

    def change(record: bytearray) -> None:
        record[value(record, attribute(record, FILE_NAME, which)) + KEY] ^= 0x20

    return lambda volume: volume.edit(number, change)


def entry_case(volume: Surgery) -> None:
    def change(data: bytearray, at: int) -> None:
        data[at + 16 + KEY] ^= 0x20

    volume.edit_entry(5, "plain.bin", change)


MUTATIONS: dict[str, tuple[Change, str]] = {
    # The four that no foreign checker found:
    "a name in another case than in the directory": (lower_case(PLAIN), "ntfs-name-differs"),
    "a bad counter of attribute ids": (in_record(PLAIN, 40, "<H", 1), "ntfs-attribute-id"),
    "a wrong sequence number of the parent": (in_name(PLAIN, 6, "<H", 99), "ntfs-name-differs"),
    "a wrong size in the directory": (in_entry(5, "plain.bin", 16 + 48, "<Q", 77), "ntfs-size-differs"),
    # What one or the other foreign checker finds:
    "a record's signature": (in_record(PLAIN, 0, "<I", 0x44414142), "ntfs-record-damaged"),
    "a torn record": (at_place(lambda volume: volume.place(PLAIN) + 510, b"\xde\xad"), "ntfs-record-damaged"),
    "a record's number": (in_record(PLAIN, 44, "<I", 3), "ntfs-record-damaged"),
    "a record's used size": (in_record(PLAIN, 24, "<I", 1024), "ntfs-record-damaged"),
    "a record's allocated size": (in_record(PLAIN, 28, "<I", 4096), "ntfs-record-damaged"),
    "a sequence number": (in_record(PLAIN, 16, "<H", 77), "ntfs-name-dangling"),
    "a sequence number of 0": (in_record(PLAIN, 16, "<H", 0), "ntfs-record-damaged"),
    "a link count": (in_record(PLAIN, 18, "<H", 2), "ntfs-link-count"),
    "a record that is free, and has a name": (in_record(PLAIN, 22, "<H", 0), "ntfs-name-dangling"),
    "a directory that is none": (in_record(SUB, 22, "<H", 1), "ntfs-record-damaged"),
    "an extension of nothing": (in_record(PLAIN, 32, "<Q", 0x0001000000000003), "ntfs-record-orphan"),
    "two attributes with one id": (same_ids, "ntfs-attribute-id"),
    "attributes out of order": (swap_attributes, "ntfs-attribute-order"),
    "an attribute's length": (in_attribute(PLAIN, STANDARD, 4, "<I", 0x40), "ntfs-record-damaged"),
    "standard information of another size": (in_attribute(PLAIN, STANDARD, 16, "<I", 40), "ntfs-record-damaged"),
    "a name in another directory": (in_name(PLAIN, 0, "<H", SUB), "ntfs-name-differs"),
    "a name's length": (in_name(PLAIN, 64, "<B", 3), "ntfs-name-damaged"),
    "a name's namespace": (in_name(PLAIN, 65, "<B", 1), "ntfs-name-differs"),
    "a short name without a long one": (in_name(LONG, 65, "<B", 0), "ntfs-name-damaged"),
    "a name that is not indexed": (in_attribute(PLAIN, FILE_NAME, 22, "<B", 0), "ntfs-record-damaged"),
    "the highest cluster of a run list": (in_attribute(PLAIN, DATA, 24, "<Q", 7), "ntfs-record-damaged"),
    "the allocated size of data": (in_attribute(PLAIN, DATA, 40, "<Q", 3 << 12), "ntfs-run-list"),
    "the size of data": (in_attribute(PLAIN, DATA, 48, "<Q", 1 << 30), "ntfs-record-damaged"),
    "the initialized size of data": (in_attribute(PLAIN, DATA, 56, "<Q", 1 << 30), "ntfs-record-damaged"),
    "the stored size of sparse data": (in_attribute(SPARSE, DATA, 64, "<Q", 4096), "ntfs-run-list"),
    "no security descriptor": (in_attribute(PLAIN, 0x50, 0, "<I", 0x40), "ntfs-security-missing"),
    "attributes that say that it is a link": (
        in_attribute(PLAIN, STANDARD, 24 + 32, "<I", 0x420), "ntfs-attributes-differ",
    ),
    "attributes that deny that it is sparse": (
        in_attribute(SPARSE, STANDARD, 24 + 32, "<I", 0x20), "ntfs-attributes-differ",
    ),
    "an attribute of an unknown type": (in_attribute(PLAIN, DATA, 0, "<I", 0x180), "ntfs-record-damaged"),
    "an attribute with unknown flags": (in_attribute(PLAIN, DATA, 12, "<H", 0x10), "ntfs-record-damaged"),
    "clusters of another file": (onto_another_file, "ntfs-clusters-shared"),
    "clusters that are free": (onto_free_clusters, "ntfs-clusters-unallocated"),
    "clusters marked as free": (
        lambda volume: volume.flip_bit(6, DATA, used_cluster(volume)), "ntfs-clusters-unallocated",
    ),
    "clusters marked as used": (
        lambda volume: volume.flip_bit(6, DATA, volume.free_cluster(1)), "ntfs-clusters-leaked",
    ),
    "a record marked as free": (lambda volume: volume.flip_bit(0, BITMAP, PLAIN), "ntfs-mft-bitmap"),
    "a record marked as used": (lambda volume: volume.flip_bit(0, BITMAP, 249), "ntfs-mft-bitmap"),
    "the allocated size in the directory": (in_entry(5, "plain.bin", 16 + 40, "<Q", 77), "ntfs-size-differs"),
    "the sequence number in a directory": (in_entry(5, "plain.bin", 6, "<H", 77), "ntfs-name-dangling"),
    "the record in a directory": (in_entry(5, "plain.bin", 0, "<I", RESIDENT), "ntfs-name-missing"),
    "the parent in a directory": (in_entry(5, "plain.bin", 16, "<H", SUB), "ntfs-name-differs"),
    "the kind in a directory": (in_entry(5, "plain.bin", 16 + 56, "<I", 0x10000020), "ntfs-name-differs"),
    "the case in a directory": (entry_case, "ntfs-name-missing"),
    "an entry's length": (in_entry(5, "plain.bin", 8, "<H", 0x58), "ntfs-index-damaged"),
    "names out of order": (swap_entries, "ntfs-index-order"),
    "security ids out of order": (swap_security_ids, "ntfs-index-order"),
    "a name that is not in the directory": (drop_entry, "ntfs-name-missing"),
    "a block that two ways lead to": (other_child, "ntfs-index-damaged"),
    "a block that is marked as free": (free_block, "ntfs-index-bitmap"),
    "the number of a block": (
        lambda volume: volume.edit_block(volume.blocks(NAMES)[0], lambda block: struct.pack_into("<Q", block, 16, 9)),
        "ntfs-index-damaged",
    ),
    "the room in a block": (
        lambda volume: volume.edit_block(volume.blocks(NAMES)[0], lambda block: struct.pack_into("<I", block, 32, 64)),
        "ntfs-index-damaged",
    ),
    "a torn block": (at_place(lambda volume: volume.blocks(NAMES)[0] + 1022, b"\xde\xad"), "ntfs-index-damaged"),
    "the mirror": (
        at_place(lambda volume: struct.unpack_from("<Q", FEATURES, 56)[0] * 4096 + 1024 + 40, b"\x99"),
        "ntfs-mirror-differs",
    ),
    "the boot sector": (at_place(lambda volume: 100, b"\x99"), "ntfs-boot-changed"),
    "the boot sector's copy": (at_place(lambda volume: len(FEATURES) - 400, b"\x99"), "ntfs-boot-changed"),
}  # fmt: skip


def mutated(change: Change) -> bytes:
    volume = Surgery(FEATURES)
    change(volume)
    assert volume.data != FEATURES
    return bytes(volume.data)


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_single_mutation_is_found(name: str) -> None:
    change, code = MUTATIONS[name]
    after = mutated(change)
    touched = check_touched(MemoryDevice(FEATURES), MemoryDevice(after), differing(FEATURES, after), path="image")
    assert code in {problem.code for problem in touched}
    assert {problem.path for problem in touched} == {"image"}
    assert code in {problem.code for problem in check_volume(MemoryDevice(after))}


def test_the_controls_raise_no_alarm() -> None:
    device = MemoryDevice(FEATURES)
    assert check_volume(device) == ()
    assert check_touched(device, device, [(0, len(FEATURES))], path=None, overwritten=()) == ()
    assert check_touched(device, device, [], path=None, overwritten=()) == ()


def test_an_attribute_list_that_the_records_contradict() -> None:
    """Nothing leads from the list's clusters to the file, so of a change only where it was made is known."""
    after = mutated(list_entry)
    assert {problem.code for problem in check_volume(MemoryDevice(after))} == {"ntfs-attribute-list"}
    written = differing(FEATURES, after)
    touched = check_touched(MemoryDevice(FEATURES), MemoryDevice(after), written, path=None, overwritten=())
    assert {problem.code for problem in touched} == {"ntfs-stray-write"}


def test_data_may_change_where_it_is_said_to() -> None:
    volume = Surgery(FEATURES)
    at = used_cluster(volume) * volume.cluster + 100
    volume.data[at : at + 8] = b"INDX" * 2  # what looks like an index block in a file's data is data
    before, after = MemoryDevice(FEATURES), MemoryDevice(volume.data)
    written = differing(FEATURES, bytes(volume.data))
    assert check_touched(before, after, written, path=None) == ()
    assert check_touched(before, after, written, path=None, overwritten=[PLAIN]) == ()
    (stray,) = check_touched(before, after, written, path=None, overwritten=[SPARSE])
    assert stray.code == "ntfs-stray-write"


@pytest.mark.parametrize("number", [2, 4, 10])
def test_own_files_that_no_work_changes(number: int) -> None:
    """$LogFile, $AttrDef and $UpCase: nothing that is done to files writes to them."""
    volume = Surgery(FEATURES)
    record = volume.record(number)
    volume.data[runs(record, attribute(record, DATA))[0][0] * volume.cluster + 50] ^= 1
    written = differing(FEATURES, bytes(volume.data))
    (stray,) = check_touched(MemoryDevice(FEATURES), MemoryDevice(volume.data), written, path=None, overwritten=())
    assert stray.code == "ntfs-stray-write"


def test_free_clusters_may_hold_anything() -> None:
    volume = Surgery(FEATURES)
    at = volume.free_cluster(1) * volume.cluster
    volume.data[at : at + 4096] = bytes(range(256)) * 16
    written = differing(FEATURES, bytes(volume.data))
    assert check_touched(MemoryDevice(FEATURES), MemoryDevice(volume.data), written, path=None, overwritten=()) == ()


def test_what_was_wrong_before_is_no_fault_of_the_change() -> None:
    before = mutated(MUTATIONS["a wrong size in the directory"][0])
    volume = Surgery(before)
    in_attribute(PLAIN, STANDARD, 24 + 32, "<I", 1)(volume)  # the file becomes read-only
    written = differing(before, bytes(volume.data))
    assert check_touched(MemoryDevice(before), MemoryDevice(volume.data), written, path=None) == ()
    in_attribute(PLAIN, DATA, 48, "<Q", 99)(volume)  # a new size, and the directory still says another
    in_attribute(PLAIN, DATA, 56, "<Q", 99)(volume)
    written = differing(before, bytes(volume.data))
    (found,) = check_touched(MemoryDevice(before), MemoryDevice(volume.data), written, path=None)
    assert found.code == "ntfs-size-differs"


def test_a_freed_record_has_the_next_sequence_number() -> None:
    """A record is freed, and everything else about it forgotten: among what is told is that its number stayed."""
    after = mutated(in_record(PLAIN, 22, "<H", 0))
    touched = check_touched(MemoryDevice(FEATURES), MemoryDevice(after), differing(FEATURES, after), path=None)
    assert {"ntfs-sequence", "ntfs-name-dangling", "ntfs-mft-bitmap", "ntfs-clusters-leaked"} <= {
        problem.code for problem in touched
    }


def test_the_flags_of_the_volume() -> None:
    dirty, other = mutated(in_attribute(3, VOLUME, 24 + 10, "<H", 1)), mutated(in_attribute(3, VOLUME, 34, "<H", 0x80))
    before = MemoryDevice(FEATURES)
    assert check_touched(before, MemoryDevice(dirty), differing(FEATURES, dirty), path=None) == ()
    (found,) = check_touched(before, MemoryDevice(other), differing(FEATURES, other), path=None)
    assert found.code == "ntfs-volume-flags"


WINDOWS_MADE = ["ntfs/fox-it__dissect.ntfs/ntfs.bin.gz"]
FOREIGN = ["ntfs/ColinFinck__ntfs/testfs1.xz"]


@pytest.mark.parametrize("name", [*WINDOWS_MADE, *FOREIGN])
def test_whole_volumes_raise_no_alarm(name: str) -> None:
    assert check_volume(FileDevice(data_file(name))) == ()


@pytest.mark.parametrize("name", ["fixed.vhd", "dynamic.vhd", "fixed.vhdx", "dynamic.vhdx"])
def test_volumes_in_windows_made_disks_raise_no_alarm(name: str) -> None:
    with open_disk(data_file(f"vhd/fox-it__dissect.hypervisor/{name}.gz")) as disk:
        (volume,) = [found for found in read_volumes(disk).volumes if found.filesystem == "ntfs"]
        assert check_volume(volume_device(disk, volume)) == ()


def test_a_security_id_that_nobody_knows() -> None:
    """Of a file that Windows made: 72 bytes of standard information, the descriptor in $Secure."""
    before = data_file(WINDOWS_MADE[0]).read_bytes()
    stat = NtfsFilesystem(MemoryDevice(before)).stat("/Random.bin")
    assert stat is not None
    assert stat.record is not None
    for number in (99999, 0):
        volume = Surgery(before)
        in_attribute(stat.record, STANDARD, 24 + 52, "<I", number)(volume)
        after = bytes(volume.data)
        (found,) = check_touched(MemoryDevice(before), MemoryDevice(after), differing(before, after), path=None)
        assert found.code == "ntfs-security-missing"


@pytest.mark.parametrize("size", [0, 100, 512, 4096, 20_000, 200_000])
def test_volumes_that_are_cut_off(size: int) -> None:
    cut = MemoryDevice(FEATURES[:size])
    for found in (
        check_volume(cut),
        check_touched(MemoryDevice(FEATURES), cut, [(0, len(FEATURES))], path=None),
        check_touched(cut, MemoryDevice(FEATURES), [(0, len(FEATURES))], path=None),
    ):
        assert found
        assert len(found) <= MAX_PROBLEMS


def test_little_is_read_where_little_was_touched() -> None:
    volume = Surgery(FEATURES)
    at = used_cluster(volume) * volume.cluster
    volume.data[at] ^= 1
    before, after = MemoryDevice(FEATURES), MemoryDevice(volume.data)
    assert check_touched(before, after, [(at, 512)], path=None) == ()
    assert before.bytes_read + after.bytes_read < 100_000


def test_intervals() -> None:
    assert joined([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)]) == [(0, 3), (5, 9)]
    assert without([(0, 10)], [(2, 3), (5, 7)]) == [(0, 2), (3, 5), (7, 10)]
    assert without([(0, 2), (4, 6)], [(0, 5)]) == [(5, 6)]
    assert without([(3, 4)], []) == [(3, 4)]
    assert list(meeting([(0, 2), (4, 6), (9, 12)], 1, 10)) == [(1, 2), (4, 6), (9, 10)]
    assert list(meeting([(0, 2), (4, 6)], 2, 4)) == []
    assert list(meeting([(0, 20)], 5, 6)) == [(5, 6)]
    assert list(meeting([], 5, 6)) == []
    assert bit_runs(0b0111_0010, 8) == [(9, 10), (12, 15)]
    assert bit_runs(0) == []
    assert bit_runs((1 << (1 << 20)) - 1, 3) == [(3, 3 + (1 << 20))]
