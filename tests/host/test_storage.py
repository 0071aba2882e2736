"""HyperVStorage: what dissect.hypervisor reads of whole files; one clear error for damaged ones."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib

import pytest
from dissect.hypervisor.descriptor.hyperv import HyperVFile

from tests.data_files import data_file
from tests.host.machines import machine
from tests.host.storage_writer import PAGE, Writer, resealed, sealed, storage
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, InputError, UnsupportedError
from vhdtool.host.storage import Unfetched, read_storage

TREE = {
    "configuration": {
        "properties": {"name": "Büro 1", "version": 0x900, "negative": -5, "share": 0.25, "on": True, "off": False},
        "empty": {},
        "data": {"short": b"\x00\x01", "text": "", "long": "x" * 3000},
    }
}


def read(data: bytes) -> dict:
    return read_storage(BytesSource(data), path="a.vmcx")


def judged(data: bytes) -> dict:
    return HyperVFile(io.BytesIO(data)).as_dict()


def test_a_file_reads_as_dissect_reads_it():
    for tree in (TREE, machine(r"C:\vm\a.vhdx")):
        assert read(storage(tree)) == judged(storage(tree)) == tree


@pytest.mark.data
@pytest.mark.parametrize("name", ["test.vmcx", "test.VMRS"])
def test_real_files_read_as_dissect_reads_them(name):
    data = data_file(f"vmconfig/fox-it__dissect.hypervisor/{name}").read_bytes()
    assert read(data) == judged(data)


def test_many_tables_of_keys():
    tree = {"configuration": {f"key{at}": {"value": at} for at in range(400)}}
    data = storage(tree)
    assert read(data) == judged(data) == tree


def test_long_binary_values_stay_in_the_file():
    found = read(storage({"a": {"blob": bytes(5000)}}))
    assert found["a"]["blob"] == Unfetched(4 * PAGE, 5000)


def test_the_newer_valid_header_counts():
    data = storage(TREE)
    torn = data[:8] + b"\xff\xff" + data[10:]  # a higher sequence number, and a wrong checksum
    assert read(torn) == TREE
    both = torn[: PAGE + 4] + bytes(4) + torn[PAGE + 8 :]
    with pytest.raises(DamagedError, match="neither of the two headers") as caught:
        read(both)
    assert caught.value.code == "vm-config-damaged"


def test_sequence_numbers_start_again_at_zero():
    data = bytearray(storage(TREE, sequence=0))  # the other header has 65535: it is the older one
    data[PAGE : PAGE + 46] = sealed(bytes(data[PAGE : PAGE + 26]) + struct.pack("<Q", 1 << 40) + bytes(12), 4)
    assert read(bytes(data)) == TREE


def test_logged_changes_are_applied():
    writer = Writer()
    writer.add(TREE)
    table, place = writer.places["/configuration/properties/version"]
    before = writer.finish()
    entry = before[3 * PAGE + place : 3 * PAGE + place + 37]
    changed = sealed(entry[:-8] + struct.pack("<q", 0xA00), 12)
    writer.logged = [
        (3 * PAGE + place, bytes(37)),
        (3 * PAGE + place, changed[:20]),
        (3 * PAGE + place + 20, changed[20:]),
    ]
    data = writer.finish()
    assert table == 1
    assert judged(data)["configuration"]["properties"]["version"] == 0x900, "dissect leaves the log out"
    assert read(data)["configuration"]["properties"]["version"] == 0xA00


def test_logged_changes_beyond_the_end_make_the_file_longer():
    writer = Writer()
    writer.add({"a": {}})
    end = len(writer.finish()) + 2 * PAGE
    table = sealed(struct.pack("<HHHI", 2, 9, 1, 0), 6)
    table += sealed(struct.pack("<BBIHIIIB", 3, 0, 31, 0, 0, 0, 1, 2) + b"k\0" + struct.pack("<q", 5), 12)
    writer.logged = [
        (2 * PAGE + 8 + 18, sealed(struct.pack("<BIQIB", 2, 0, end, PAGE, 1), 1)),
        (end, table.ljust(PAGE, b"\0")),
    ]
    assert read(writer.finish()) == {"a": {}, "k": 5}


@pytest.mark.parametrize("at", ["entry", "data", "header"])
def test_a_damaged_log_is_an_error(at):
    writer = Writer(logged=[(3 * PAGE, b"x")])
    writer.add(TREE)
    data = bytearray(writer.finish())
    log = struct.unpack_from("<Q", data, 26)[0]
    data[{"header": log + 20, "entry": log + 34 + 8, "data": log + PAGE}[at]] ^= 1
    with pytest.raises(DamagedError, match="replay log") as caught:
        read(bytes(data))
    assert caught.value.code == "vm-config-damaged"


def test_logs_that_lie_about_their_size():
    for field, value in (("<I", 0xFFFFFFFF), ("<I", 1000)):
        data = bytearray(storage(TREE))
        log = struct.unpack_from("<Q", data, 26)[0]
        struct.pack_into(field, data, log + 8, value)
        data[log : log + 34] = sealed(bytes(data[log : log + 34]), 4)
        with pytest.raises(InputError) as caught:
            read(bytes(data))
        assert caught.value.code in {"vm-config-damaged", "vm-config-too-large"}


def test_another_version_is_told():
    with pytest.raises(UnsupportedError) as caught:
        read(storage(TREE, version=0x300))
    assert (caught.value.code, caught.value.found) == ("vm-config-version-unsupported", "0x300")


def lying(tree: dict, key: str, **fields: int) -> bytes:
    """The file with fields of one key replaced and its checksum right."""
    places = {
        "kind": (0, "<B"),
        "flags": (1, "<B"),
        "size": (2, "<I"),
        "table": (6, "<H"),
        "offset": (8, "<I"),
        "name": (20, "<B"),
    }
    writer = Writer()
    writer.add(tree)
    data = bytearray(writer.finish())
    at = 3 * PAGE + writer.places[key][1]
    for field, value in fields.items():
        struct.pack_into(places[field][1], data, at + places[field][0], value)
    return resealed(bytes(data))


@pytest.mark.parametrize(
    ("key", "fields", "told"),
    [
        ("/configuration", {"size": 0xFFFFFFFF}, "longer than its table"),
        ("/configuration", {"size": 5}, "longer than its table"),
        ("/configuration", {"name": 0}, "name of a key"),
        ("/configuration", {"name": 255}, "of a key"),
        ("/configuration", {"kind": 77}, "a kind that is not known"),
        ("/configuration", {"flags": 1}, "a kind that is not known"),
        ("/configuration/properties", {"table": 9}, "has no parent"),
        ("/configuration/properties", {"offset": 11}, "has no parent"),
        ("/configuration/properties/name", {"kind": 7, "flags": 1}, "an object that is not there"),
    ],
)
def test_keys_that_lie(key, fields, told):
    with pytest.raises(DamagedError, match=told) as caught:
        read(lying(TREE, key, **fields))
    assert (caught.value.code, caught.value.path) == ("vm-config-damaged", "a.vmcx")
    assert caught.value.hint


def test_keys_in_a_circle_and_too_deep():
    writer = Writer()
    writer.add({"a": {"b": {"c": {}}}})
    _, inner = writer.places["/a/b/c"]
    circle = lying({"a": {"b": {"c": {}}}}, "/a/b", table=1, offset=inner)
    with pytest.raises(DamagedError, match="in a circle"):
        read(circle)
    deep: dict = {}
    for _ in range(40):
        deep = {"n": deep}
    with pytest.raises(DamagedError, match="nested too deep"):
        read(storage(deep))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ((1, 2 * PAGE, PAGE), "the same place"),
        ((2, 3 * PAGE, PAGE), "the same place"),
        ((1, 3 * PAGE, PAGE), "the same place|no signature"),
        ((1, 1 << 60, PAGE), "cut off"),
        ((2, 1 << 60, PAGE), "cut off"),
        ((2, 5, 4), "too short"),
        ((2, 5, 0xFFFFFFFF), "too long"),
    ],
)
def test_objects_that_lie(entry, told):
    data = bytearray(storage(TREE))
    place = 2 * PAGE + 8 + 18 * 3
    data[place : place + 18] = sealed(struct.pack("<BIQIB", entry[0], 0, entry[1], entry[2], 1), 1)
    with pytest.raises(InputError, match=told):
        read(bytes(data))


def test_text_that_is_none():
    data = bytearray(storage({"a": {"text": "ab"}}))
    place = bytes(data).index("ab".encode("utf-16-le"))
    data[place : place + 2] = b"\x00\xdc"
    with pytest.raises(DamagedError, match="text that is none"):
        read(resealed(bytes(data)))


CODES = {"vm-config-damaged", "vm-config-too-large", "vm-config-version-unsupported", "truncated"}


def outcome(data: bytes) -> dict | str:
    """What reading gives: the tree, or the error's code."""
    try:
        return read(data)
    except InputError as error:
        return error.code


def test_every_cut_is_an_error():
    data = storage(TREE)
    whole = read(data)
    for length in [*range(0, 3 * PAGE, 97), *range(3 * PAGE, len(data), 331)]:
        found = outcome(data[:length])
        assert found == whole or found in {"truncated", "vm-config-damaged"}, length


def test_a_flipped_bit_is_noticed_or_means_nothing():
    tree = {
        "configuration": {"properties": {"name": "Büro 1", "version": 0x900, "on": True}, "blob": b"ab", "node": {}}
    }
    data = storage(tree)
    rng = random.Random(5)
    end = 3 * PAGE + 300
    noticed = 0
    for at in [*range(46), *range(PAGE, PAGE + 46), *range(2 * PAGE, 2 * PAGE + 60), *range(3 * PAGE, end)]:
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        found = outcome(bytes(changed))
        assert found in ({"vm-config-damaged", "truncated"} if isinstance(found, str) else [tree]), hex(at)
        noticed += isinstance(found, str)
    assert noticed > 250


def test_a_key_that_damage_marked_as_free():
    data = bytearray(storage(TREE))
    place = bytes(data).index(b"version\0") - 21
    data[place] ^= 2  # 3, a number, becomes 1, free
    with pytest.raises(DamagedError, match="marked as free"):
        read(bytes(data))


def test_hostile_files_with_right_checksums():
    data = storage(machine(r"C:\vm\a.vhdx", extra={"notes": "n" * 2500}), logged=[(2 * PAGE + 4000, b"abc")])
    rng = random.Random(11)
    failed = 0
    for _ in range(500):
        started = time.monotonic()
        found = outcome(resealed(mutated(data, rng)))
        assert isinstance(found, dict) or found in CODES
        failed += isinstance(found, str)
        assert time.monotonic() - started < 5
    assert failed > 50


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes where they matter: in structures, not in the air between them."""
    changed = bytearray(data)
    log = struct.unpack_from("<Q", data, 26)[0]
    regions = [(0, 46), (PAGE, 46), (2 * PAGE, 100), (3 * PAGE, 2 * PAGE), (log, 90), (log + PAGE, 8)]
    for _ in range(rng.randint(1, 6)):
        start, length = rng.choice(regions)
        at = min(start + rng.randrange(length), len(changed) - 8)
        width = rng.choice([1, 1, 2, 4, 8])
        value = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 2**16 - 1, 2**31, 2**32 - 1, 2**63, rng.getrandbits(64)])
        changed[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(changed)


def test_the_checksum_is_crc32():
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
