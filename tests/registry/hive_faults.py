"""The 26 faults that a strict check of a hive must find, each put into a sound hive by hand.

Offsets are those of the public format description; the hive is built by :mod:`tests.registry.build_hive`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.registry.build_hive import NIL, PAGE, build_hive, sealed
from vhdtool.bytesource import BytesSource
from vhdtool.registry.hive import Hive, Key

SOUND = build_hive(
    {
        "": {"default": 1},
        "Select": {"Current": 1},
        "Values": {"one": "a string that is long enough", "two": "another that is long enough", "n": 7, "zwei": 8},
        "Big": {"data": b"0123456789" * 4000},
        **{f"Many\\Key{number:02}": {"n": number} for number in range(40)},
        **{f"Last\\Filler{number:03}": {"text": "filling" * 20} for number in range(60)},
    }
)


class Bytes:
    """A sound hive that a fault is put into."""

    def __init__(self) -> None:
        self.raw = bytearray(SOUND)
        self.hive = Hive.open(BytesSource(SOUND))

    def key(self, path: str) -> Key:
        found = self.hive.key(path)
        assert found is not None
        return found

    def data(self, path: str, value: str | None = None) -> int:
        """The file offset of the data of a key's or value's cell."""
        key = self.key(path)
        if value is None:
            return key.offset + 4
        found = key.value(value)
        assert found is not None
        return found.offset + 4

    def get(self, place: int, form: str = "<I") -> int:
        return int(struct.unpack_from(form, self.raw, place)[0])

    def put(self, place: int, value: int, form: str = "<I") -> None:
        struct.pack_into(form, self.raw, place, value)

    def cell(self, place: int) -> int:
        """The file offset of the data of the cell that an offset at ``place`` leads to."""
        return PAGE + self.get(place) + 4

    def free(self, data: int) -> None:
        """Mark a cell free."""
        self.put(data - 4, abs(self.get(data - 4, "<i")), "<i")


@dataclass(frozen=True)
class Fault:
    name: str
    put: Callable[[Bytes], None]
    code: str


# offsets inside the data of a key (nk), a value (vk), a security cell (sk)
FLAGS, PARENT, SUBKEYS, SUBKEY_LIST, VALUES, VALUE_LIST, SECURITY = 2, 16, 20, 28, 36, 40, 44
MAX_NAME, MAX_VALUE_NAME, MAX_VALUE_DATA, NAME_LENGTH, NAME = 52, 60, 64, 72, 76
DATA_SIZE, DATA_PLACE, VALUE_NAME = 4, 8, 20
SK_NEXT, SK_COUNT = 4, 12


def checksum(at: Bytes) -> None:
    at.raw[508] ^= 1


def sequences(at: Bytes) -> None:
    at.raw[:] = sealed(bytes(at.raw), primary=9, secondary=8)


def bin_offset(at: Bytes) -> None:
    at.put(2 * PAGE + 4, 0x2000)


def bin_signature(at: Bytes) -> None:
    at.raw[2 * PAGE : 2 * PAGE + 4] = b"nibh"


def cell_overrun(at: Bytes) -> None:
    at.put(at.data("Select") - 4, -0x4000, "<i")


def parent(at: Bytes) -> None:
    at.put(at.data(r"Many\Key07") + PARENT, at.get(36))


def order(at: Bytes) -> None:
    listed = at.cell(at.data("Many") + SUBKEY_LIST) + 4
    first = bytes(at.raw[listed : listed + 8])
    at.raw[listed : listed + 8] = at.raw[listed + 8 : listed + 16]
    at.raw[listed + 8 : listed + 16] = first


def name_hash(at: Bytes) -> None:
    at.raw[at.cell(at.data("Many") + SUBKEY_LIST) + 4 + 3 * 8 + 4] ^= 1


def subkey_count(at: Bytes) -> None:
    at.put(at.data("Many") + SUBKEYS, 39)


def security_count(at: Bytes) -> None:
    at.raw[at.cell(at.data("Many") + SECURITY) + SK_COUNT] ^= 4


def security_ring(at: Bytes) -> None:
    at.put(at.cell(at.data("Many") + SECURITY) + SK_NEXT, 0x40)


def max_name(at: Bytes) -> None:
    at.put(at.data("Many") + MAX_NAME, 4, "<H")


def max_value_name(at: Bytes) -> None:
    at.put(at.data("Values") + MAX_VALUE_NAME, 2)


def max_value_data(at: Bytes) -> None:
    at.put(at.data("Values") + MAX_VALUE_DATA, 8)


def free_neighbours(at: Bytes) -> None:
    last = max(range(PAGE, len(at.raw), PAGE), key=lambda page: at.raw[page : page + 4] == b"hbin" and page)
    place, end = last + 32, last + at.get(last + 8)
    while (size := at.get(place, "<i")) < 0:
        place -= size
    assert place + size == end
    assert size > 16
    at.put(place, 16, "<i")
    at.put(place + 16, size - 16, "<i")


def orphan(at: Bytes) -> None:
    at.put(at.data("Values") + VALUES, 3)


def shared_data(at: Bytes) -> None:
    at.put(at.data("Values", "two") + DATA_PLACE, at.get(at.data("Values", "one") + DATA_PLACE))


def free_value(at: Bytes) -> None:
    at.free(at.data("Values", "n"))


def value_twice(at: Bytes) -> None:
    place = at.data("Values", "two") + VALUE_NAME
    at.raw[place : place + 3] = b"ONE"


def subkey_twice(at: Bytes) -> None:
    """With the right hash."""
    place = at.data(r"Many\Key08") + NAME
    at.raw[place : place + 5] = b"kEY07"
    listed = at.cell(at.data("Many") + SUBKEY_LIST) + 4
    at.put(listed + 8 * 8 + 4, at.get(listed + 7 * 8 + 4))


def big_without_segments(at: Bytes) -> None:
    """A signature of another kind where the list of segments belongs."""
    place = at.cell(at.data("Big", "data") + DATA_PLACE)
    at.raw[place : place + 2] = b"xx"


def data_overrun(at: Bytes) -> None:
    at.put(at.data("Values", "one") + DATA_SIZE, 4000)
    at.put(at.data("Values") + MAX_VALUE_DATA, 4000)


def free_subkey(at: Bytes) -> None:
    at.free(at.data(r"Many\Key11"))


def no_name(at: Bytes) -> None:
    at.put(at.data("Big") + NAME_LENGTH, 0, "<H")


def bins_too_short(at: Bytes) -> None:
    at.raw[:] = sealed(bytes(at.raw), hbins=at.get(40) - PAGE)


def root_flag(at: Bytes) -> None:
    at.put(at.data("") + FLAGS, 0x28, "<H")


FAULTS = (
    Fault("checksum", checksum, "hive-base-block"),
    Fault("sequence numbers", sequences, "hive-dirty"),
    Fault("offset of a bin", bin_offset, "hive-bin"),
    Fault("signature of a bin", bin_signature, "hive-bin"),
    Fault("cell beyond its bin", cell_overrun, "hive-cell-size"),
    Fault("parent", parent, "hive-key-parent"),
    Fault("order", order, "hive-subkey-order"),
    Fault("hash", name_hash, "hive-subkey-hash"),
    Fault("number of subkeys", subkey_count, "hive-subkey-count"),
    Fault("count of a security cell", security_count, "hive-security-count"),
    Fault("ring of security cells", security_ring, "hive-"),
    Fault("longest name", max_name, "hive-max-name-length"),
    Fault("longest name of a value", max_value_name, "hive-max-lengths"),
    Fault("longest data", max_value_data, "hive-max-lengths"),
    Fault("free cells that touch", free_neighbours, "hive-free-cells"),
    Fault("cell that nobody uses", orphan, "hive-cell-orphan"),
    Fault("data of two values", shared_data, "hive-cell-shared"),
    Fault("value in a free cell", free_value, "hive-cell-free"),
    Fault("two values of one name", value_twice, "hive-value-twice"),
    Fault("two subkeys of one name", subkey_twice, "hive-subkey-twice"),
    Fault("long data without segments", big_without_segments, "hive-big-data"),
    Fault("data beyond its cell", data_overrun, "hive-cell-size"),
    Fault("subkey in a free cell", free_subkey, "hive-cell-free"),
    Fault("key without a name", no_name, "hive-key-name"),
    Fault("bins one page short", bins_too_short, "hive-"),
    Fault("root that is not marked", root_flag, "hive-root-flag"),
)
assert len(FAULTS) == 26
assert NIL == 0xFFFFFFFF


def faulty(fault: Fault) -> bytes:
    at = Bytes()
    fault.put(at)
    assert bytes(at.raw) != SOUND
    return bytes(at.raw)
