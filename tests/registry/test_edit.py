from __future__ import annotations

import struct

import pytest

from tests.data_files import data_file
from tests.oracle.test_registry import SMALL
from tests.registry.build_hive import NIL, PAGE, SEGMENT, build_hive, hbins_size, name_hash, sealed
from tests.registry.editing import HIVE, NOW, START, edited, editor, key_of, node, refused
from tests.registry.hive_faults import SOUND, Bytes
from tests.registry.hive_model import content_of_hive, written
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, UsageError
from vhdtool.registry.check import check_hive
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, SetValue


class Counting(BytesSource):
    """Counts the bytes that are read of it."""

    count = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().read_at(offset, length)


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_number_changes_in_two_sectors() -> None:
    """The common case: no cell is taken, and but for the sequence numbers and the time four bytes change."""
    started = editor()
    assert started.set_value(r"controlset001\services\VMBUS", "start", 4, START)
    made = started.finish()
    assert (made.size, made.grew_from, made.changed, made.sequence) == (len(HIVE), None, True, 8)
    pieces = list(made.pieces())
    assert [len(piece) for _, piece in pieces] == [PAGE, PAGE]
    assert pieces[-1][0] == 0
    after = written(HIVE, made)
    sectors = {place // 512 for place in range(len(HIVE)) if HIVE[place] != after[place]}
    assert len(sectors) <= 3
    value = key_of(after, r"ControlSet001\Services\vmbus").value("Start")
    assert value is not None
    assert (value.name, value.data) == ("Start", 2)
    assert made.image.read_at(0, made.image.size) == after


def test_what_is_there_already_is_left_alone() -> None:
    for again in (
        SetValue(r"ControlSet001\Services\VMBUS", "START", 4, b"\4\0\0\0"),
        SetValue("Long", "flat", 3, b"f" * SEGMENT),
        SetValue("Long", "big", 3, b"b" * (3 * SEGMENT + 5)),
        DeleteValue(r"ControlSet001\Services\vmbus", "nothing"),
        DeleteValue(r"ControlSet001\nothing", "nothing"),
        CreateKey(r"\controlset001\services\\VMICKVP\\"),
        CreateKey(""),
        DeleteKey(r"ControlSet001\Services\nothing"),
    ):
        started = editor()
        assert started.apply(again) is False
        made = started.finish()
        assert (made.changed, list(made.pieces()), made.sequence, made.size) == (False, [], 7, len(HIVE))
        assert made.image.read_at(0, len(HIVE)) == HIVE


LENGTHS = (0, 1, 2, 3, 4, 5, 12, 4000, 16_343, 16_344, 16_345, 32_688, 32_689, 1_000_000)


@pytest.mark.parametrize("minor", [3, 4, 5])
@pytest.mark.parametrize("length", LENGTHS)
def test_data_of_every_length_in_place_of_every_other(length: int, minor: int) -> None:
    raw = build_hive({"Key": {"a": 1, "other": "x"}}, minor=minor, lists="lf" if minor < 5 else "lh")
    data = bytes(number % 251 for number in range(length))
    for before in (2, 100, 20_000):
        first = edited(lambda one: one.set_value("Key", "a", 3, b"?" * before), raw)  # noqa: B023
        second = edited(lambda one: one.set_value("Key", "a", 0xFFFF0012, data), first)
        value = key_of(second, "Key").value("a")
        assert value is not None
        assert (value.type, value.raw) == (0xFFFF0012, data)
        assert content_of_hive(second)["\\Key"]["other"][0] == 1


@pytest.mark.parametrize(("minor", "length", "kind"), [(5, 16_345, b"db"), (4, 16_345, b"db"), (3, 16_400, b"xx")])
def test_long_data_is_in_segments_from_version_4_on(minor: int, length: int, kind: bytes) -> None:
    raw = edited(lambda one: one.set_value("New", "v", 3, b"x" * length), build_hive({"Key": {}}, minor=minor))
    value = key_of(raw, "New").value("v")
    assert value is not None
    place = PAGE + struct.unpack_from("<I", raw, value.offset + 4 + 8)[0]
    assert raw[place + 4 : place + 6] == kind
    (size,) = struct.unpack_from("<i", raw, place)
    assert size == (-16 if kind == b"db" else -32_768)  # above 16 KiB cells are a power of two


def test_the_last_segment_has_a_whole_cell() -> None:
    """As those that Windows writes; hivex relies upon it."""
    raw = edited(lambda one: one.set_value("Key", "v", 3, b"x" * (SEGMENT + 1)))
    value = key_of(raw, "Key").value("v")
    assert value is not None
    (head,) = struct.unpack_from("<I", raw, value.offset + 4 + 8)
    (table,) = struct.unpack_from("<I", raw, PAGE + head + 4 + 4)
    segments = struct.unpack_from("<2I", raw, PAGE + table + 4)
    assert [struct.unpack_from("<i", raw, PAGE + cell)[0] for cell in segments] == [-16_352, -16_352]


@pytest.mark.parametrize(
    ("name", "stored", "flag"),
    [
        ("", b"", 0),
        ("Größe", b"Gr\xf6\xdfe", 1),
        ("\x80\x9f\xff", b"\x80\x9f\xff", 1),
        ("имя", "имя".encode("utf-16-le"), 0),
        ("\U00010400", "\U00010400".encode("utf-16-le"), 0),
        ("\ud800x", b"\0\xd8x\0", 0),
    ],
)
def test_names_are_stored_as_latin_1_or_utf_16(name: str, stored: bytes, flag: int) -> None:
    raw = edited(lambda one: one.set_value("Key", name, 4, START))
    value = key_of(raw, "Key").value(name)
    assert value is not None
    length, flags = struct.unpack_from("<2xH12xH", raw, value.offset + 4)
    assert raw[value.offset + 24 : value.offset + 24 + length] == stored
    assert flags == flag
    if name:
        raw = edited(lambda one: one.create_key(name))
        key = key_of(raw, name)
        assert node(raw, name, "<H", 2) == (0x20 if flag else 0)
        assert raw[key.offset + 80 : key.offset + 80 + len(stored)] == stored
        parent = key_of(raw, "")
        listed = PAGE + node(raw, "", "<I", 28) + 8
        leaf = dict(struct.iter_unpack("<II", raw[listed : listed + 8 * sum(1 for _ in parent.subkeys())]))
        assert leaf[key.offset - PAGE] == name_hash(name)


def test_times_and_maxima() -> None:
    raw = edited(lambda one: one.set_value("Key", "Name", 3, b"x" * 50))
    for path, time in (("Key", NOW), ("", NOW), ("Long", None)):
        assert (key_of(raw, path).last_written == time) == (time is not None)
    assert (node(raw, "Key", "<I", 60), node(raw, "Key", "<I", 64)) == (8, 50)
    assert (node(raw, "", "<H", 52), node(raw, "", "<H", 54)) == (26, 0)  # ControlSet001
    raw = edited(lambda one: one.set_value("Key", "N", 3, b"x"), raw)
    assert (node(raw, "Key", "<I", 60), node(raw, "Key", "<I", 64)) == (8, 50)  # more than the truth is usual
    raw = edited(lambda one: (one.delete_value("Key", "n"), one.delete_value("Key", "name")), raw)
    fields = [node(raw, "Key", "<I", place) for place in (36, 40, 60, 64)]
    assert fields == [0, NIL, 0, 0]


def test_a_set_value_does_not_touch_its_keys_parent() -> None:
    raw = edited(lambda one: one.set_value(r"ControlSet001\Services\vmbus", "Start", 4, START))
    assert key_of(raw, r"ControlSet001\Services\vmbus").last_written == NOW
    assert key_of(raw, r"ControlSet001\Services").last_written != NOW


def test_the_case_of_an_existing_name_stays() -> None:
    raw = edited(lambda one: one.set_value(r"ControlSet001\Services\vmbus", "START", 4, START))
    assert {"Start", "ImagePath", "Type"} == set(content_of_hive(raw)[r"\ControlSet001\Services\vmbus"])


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_that_are_missing_are_created() -> None:
    raw = edited(lambda one: one.set_value(r"A\b\C", "n", 4, START))
    content = content_of_hive(raw)
    assert content["\\A\\b\\C"] == {"n": (4, START)}
    assert content["\\A"] == content["\\A\\b"] == {}
    for path, parent in (("A", ""), (r"A\b", "A"), (r"A\b\C", r"A\b")):
        assert node(raw, path, "<I", 16) == key_of(raw, parent).offset - PAGE
        assert key_of(raw, path).last_written == NOW


def test_a_new_key_has_the_security_of_its_siblings() -> None:
    """Where most of them have one of their own; the count of uses follows."""
    at = Bytes()
    root = at.cell(at.data("") + 44)
    place = len(at.raw)  # a second security cell in a bin of its own, for the keys below Many
    size = 32 + struct.unpack_from("<I", at.raw, root + 16)[0]
    body = bytearray(at.raw[root : root + size])
    cell = place - PAGE + 32
    first = root - 4 - PAGE
    struct.pack_into("<IIII", body, 4, first, first, 40, size - 32 + 12)
    struct.pack_into("<I", body, 16, struct.unpack_from("<I", at.raw, root + 16)[0])
    page = struct.pack("<4sII", b"hbin", place - PAGE, PAGE).ljust(32, b"\0")
    length = -(-(len(body) + 4) // 8) * 8
    page += struct.pack("<i", -length) + bytes(body).ljust(length - 4, b"\0")
    page += struct.pack("<i", PAGE - len(page)).ljust(PAGE - len(page), b"\0")
    at.raw += page
    struct.pack_into("<II", at.raw, root + 4, cell, cell)
    (count,) = struct.unpack_from("<I", at.raw, root + 12)
    struct.pack_into("<I", at.raw, root + 12, count - 40)
    for number in range(40):
        at.put(at.data(f"Many\\Key{number:02}") + 44, cell)
    raw = sealed(bytes(at.raw), hbins=hbins_size(SOUND) + PAGE)
    assert check_hive(BytesSource(raw)) == ()
    made = edited(lambda one: (one.create_key("Many\\New\\Below"), one.create_key("Last\\New")), raw)
    assert node(made, r"Many\New", "<I", 44) == node(made, r"Many\New\Below", "<I", 44) == cell
    assert node(made, r"Last\New", "<I", 44) == first
    # the last use gone, the cell is gone as well
    gone = edited(lambda one: [one.delete_key(f"Many\\Key{number:02}") for number in range(40)], made)
    assert struct.unpack_from("<I", gone, PAGE + cell + 4 + 12)[0] == 2
    gone = edited(lambda one: one.delete_key("Many"), gone)
    assert struct.unpack_from("<i", gone, PAGE + cell)[0] > 0
    again = edited(lambda one: [one.create_key(f"Many\\Key{number:02}") for number in range(60)], gone)
    assert len(again) == len(made)


def test_a_count_of_uses_that_is_too_low_frees_nothing() -> None:
    """The cell would be freed while other keys still name it; chntpw leaves such counts."""
    at = Bytes()
    at.put(at.cell(at.data("") + 44) + 12, 41)
    before = bytes(at.raw)
    with pytest.raises(DamagedError) as caught:
        editor(before).delete_key("Many")  # 41 keys
    assert caught.value.code == "hive-security-count"
    with pytest.raises(DamagedError) as caught:
        editor(before).delete_key("Last")  # 61
    assert caught.value.code == "hive-security-count"
    assert editor(before).delete_key("Select")


@pytest.mark.parametrize(
    ("lists", "minor", "limit"), [("lh", 5, 1012), ("lf", 3, 507), ("li", 5, 1012), ("li", 3, 1012)]
)
def test_lists_are_split_where_they_are_full(lists: str, minor: int, limit: int) -> None:
    tree = {f"Many\\Key{number:04}": {} for number in range(limit)}
    raw = build_hive({"": {}, **tree}, lists=lists, leaf=limit, minor=minor)
    assert leaves(raw, "Many") == (lists, [limit])
    made = edited(lambda one: one.create_key("Many\\Key0000a"), raw)
    assert leaves(made, "Many") == (lists, [(limit + 1) // 2, limit + 1 - (limit + 1) // 2])
    assert node(made, "Many", "<I", 20) == limit + 1
    made = edited(lambda one: [one.create_key(f"Many\\New{number}") for number in range(limit)], made)
    kind, counts = leaves(made, "Many")
    assert (kind, sum(counts)) == (lists, 2 * limit + 1)
    assert len(counts) in (3, 4)
    assert max(counts) <= limit
    made = edited(lambda one: [one.delete_key(f"Many\\Key{number:04}") for number in range(limit)], made)
    assert sum(leaves(made, "Many")[1]) == limit + 1
    last = edited(lambda one: [one.delete_key(f"Many\\New{number}") for number in range(limit)], made)
    assert leaves(last, "Many") == (lists, [1])
    none = edited(lambda one: one.delete_key("Many\\Key0000A"), last)
    assert [node(none, "Many", "<I", place) for place in (20, 28)] == [0, NIL]
    assert node(none, "Many", "<H", 52) == 0


@pytest.mark.parametrize(("minor", "kind"), [(3, "lf"), (4, "lf"), (5, "lh")])
def test_a_new_list_is_of_the_kind_of_its_version(minor: int, kind: str) -> None:
    raw = edited(lambda one: one.create_key(r"Key\Below"), build_hive({"Key": {}}, minor=minor, lists="li"))
    assert leaves(raw, "Key") == (kind, [1])
    assert leaves(raw, "") == ("li", [1])


def leaves(raw: bytes, path: str) -> tuple[str, list[int]]:
    """The kind of a key's leaves, and how many keys each has."""
    cells = [node(raw, path, "<I", 28)]
    kind, count = struct.unpack_from("<2sH", raw, PAGE + cells[0] + 4)
    if kind == b"ri":
        cells = list(struct.unpack_from(f"<{count}I", raw, PAGE + cells[0] + 8))
    found = [struct.unpack_from("<2sH", raw, PAGE + cell + 4) for cell in cells]
    (kind,) = {kind for kind, _ in found}
    return kind.decode(), [count for _, count in found]


def test_room_is_used_again() -> None:
    raw = HIVE
    for turn in range(30):
        raw = edited(lambda one: one.set_value(f"New{turn}\\Below", "v", 3, bytes(3000)), raw)  # noqa: B023
        raw = edited(lambda one: one.delete_key(f"new{turn}"), raw)  # noqa: B023
    assert len(raw) <= len(HIVE) + PAGE


def test_deep_keys() -> None:
    deep = "\\".join("d" * 511)
    raw = edited(lambda one: one.create_key(deep))
    assert key_of(raw, deep).path == deep
    gone = edited(lambda one: one.delete_key("d"), raw)
    assert len(content_of_hive(gone)) == len(content_of_hive(HIVE))
    refused(lambda one: one.create_key(deep + "\\e"), UsageError, "key-name", raw)


def test_all_operations_in_one_write() -> None:
    def change(one: HiveEditor) -> bool:
        results = [
            one.apply(SetValue("A", "v", 1, b"x\0")),
            one.apply(CreateKey(r"A\B")),
            one.apply(DeleteValue("A", "V")),
            one.apply(DeleteKey(r"A\B")),
            one.apply(DeleteKey(r"a\b")),
            one.apply(SetValue(r"ControlSet001\Services\vmbus", "Start", 4, START)),
        ]
        return results == [True, True, True, True, False, True]

    raw = edited(change)
    assert content_of_hive(raw)["\\A"] == {}
    assert node(raw, "A", "<I", 28) == NIL


# --- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_service_of_a_real_hive_is_set_with_little_reading() -> None:
    """16 MB of Windows 10: two pages are written, and less than 100 KiB read, the gate included."""
    source = Counting(data_file("hives/mkorman90__regipy/SYSTEM.xz").read_bytes())
    started = HiveEditor(Hive.open(source))
    assert started.set_value(r"ControlSet001\Services\vmbus", "Start", 4, START)
    pieces = list(started.finish().pieces())
    assert len(pieces) == 2
    assert source.count < 100_000


@pytest.mark.data
def test_a_new_key_of_a_real_hive_reads_a_bounded_part() -> None:
    source = Counting(data_file("hives/mkorman90__regipy/SYSTEM.xz").read_bytes())
    started = HiveEditor(Hive.open(source))
    assert started.set_value(r"ControlSet001\Services\vmicnew\Parameters", "ServiceDll", 2, bytes(80))
    result = started.finish()
    assert result.grew_from is None
    assert source.count < source.size // 2
    assert len(list(result.pieces())) < 10


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_every_genuine_hive_can_be_edited_and_set_back(name: str) -> None:
    """After the edit and after its undoing it holds what it held, and nothing is wrong that was not before."""
    raw = data_file(name).read_bytes()
    before = {problem.code for problem in check_hive(BytesSource(raw))}
    content = content_of_hive(raw)
    for adding in (True, False):
        started = HiveEditor(Hive.open(BytesSource(raw)))
        if adding:
            assert started.set_value(r"Vhdtool\Ключ\ß", "v", 3, bytes(20_000))
        else:
            assert started.delete_key("vhdtool")
        raw = written(raw, started.finish())
        assert {problem.code for problem in check_hive(BytesSource(raw))} == before
        now = content_of_hive(raw)
        if adding:
            assert now.pop("\\Vhdtool") == now.pop("\\Vhdtool\\Ключ") == {}
            assert now.pop("\\Vhdtool\\Ключ\\ß") == {"v": (3, bytes(20_000))}
        assert now == content
