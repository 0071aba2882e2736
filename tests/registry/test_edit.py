from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.registry.build_hive import NIL, PAGE, SEGMENT, build_hive, hbins_size, name_hash, sealed
from tests.registry.build_log import dirt_log, dirty, entry, hvle_log
from tests.registry.hive_faults import SOUND, Bytes
from tests.registry.hive_model import content_of_hive, written
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, OutputError, RefusedError, UsageError, VhdtoolError
from vhdtool.registry import edit as edit_module
from vhdtool.registry.check import WARNING_CODES, check_hive
from vhdtool.registry.edit import EditedHive, HiveEditor
from vhdtool.registry.hive import Hive, Key
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, SetValue

NOW = datetime(2025, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
START = b"\x02\0\0\0"
HIVE = build_hive(
    {
        "": {"": "root"},
        r"ControlSet001\Services\vmbus": {"Start": 4, "ImagePath": "system32\\drivers\\vmbus.sys", "Type": 1},
        r"ControlSet001\Services\vmickvp\Parameters": {"ServiceDll": "%SystemRoot%\\System32\\icsvc.dll"},
        "Long": {"flat": b"f" * SEGMENT, "big": b"b" * (3 * SEGMENT + 5)},
    },
    sequences=(7, 7),
)


class Counting(BytesSource):
    """Counts the bytes that are read of it."""

    count = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().read_at(offset, length)


def editor(raw: bytes = HIVE, logs: dict[str, bytes] | None = None) -> HiveEditor:
    beside = [(name, BytesSource(log)) for name, log in (logs or {}).items()]
    return HiveEditor(Hive.open(BytesSource(raw), beside, path="SYSTEM"), now=NOW)


def edited(change: Callable[[HiveEditor], object], raw: bytes = HIVE) -> bytes:
    """The hive's file after a change, which the strict check finds sound."""
    started = editor(raw)
    assert change(started) is not False
    made = written(raw, started.finish())
    assert {problem.code for problem in check_hive(BytesSource(made))} <= WARNING_CODES
    return made


def key_of(raw: bytes, path: str) -> Key:
    found = Hive.open(BytesSource(raw)).key(path)
    assert found is not None
    return found


def node(raw: bytes, path: str, form: str, place: int) -> int:
    """A field of a key, by its offset in the public description."""
    return int(struct.unpack_from(form, raw, key_of(raw, path).offset + 4 + place)[0])


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


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(
    change: Callable[[HiveEditor], object], kind: type[VhdtoolError], code: str, raw: bytes = HIVE
) -> VhdtoolError:
    """The change raises, changes nothing, and leaves the editor usable."""
    before = hashlib.sha256(raw).digest()
    started = editor(raw)
    with pytest.raises(kind) as caught:
        change(started)
    assert caught.value.code == code
    made = started.finish()
    assert list(made.pieces()) == []
    assert hashlib.sha256(raw).digest() == before
    return caught.value


def test_names_that_windows_would_not_take() -> None:
    refused(lambda one: one.create_key("k" * 256), UsageError, "key-name")
    refused(lambda one: one.create_key("\U00010400" * 128), UsageError, "key-name")
    refused(lambda one: one.set_value("Key\\" + "k" * 256, "v", 4, START), UsageError, "key-name")
    refused(lambda one: one.set_value("Key", "v" * 16_384, 4, START), UsageError, "value-name")
    refused(lambda one: one.set_value("Key", "v", 1 << 32, START), UsageError, "value-data")
    refused(lambda one: one.set_value("Key", "v", -1, START), UsageError, "value-data")
    refused(lambda one: one.delete_key(""), UsageError, "delete-root")
    refused(lambda one: one.delete_key("\\"), UsageError, "delete-root")
    edited(lambda one: one.set_value("Key" + "\\" + "k" * 255, "v" * 16_383, 4, START))
    edited(lambda one: one.set_value("ж" * 255, "ж" * 16_383, 4, START))


def test_data_that_no_list_of_segments_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_module, "DATA_LIMIT", 100_000)
    refused(lambda one: one.set_value("Key", "v", 3, bytes(100_001)), UsageError, "value-data")


FLAGS, VALUE_FLAGS = 4 + 2, 4 + 16


@pytest.mark.parametrize("flag", [0x10, 0x40])
def test_links_and_stand_ins_are_refused(flag: int) -> None:
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp").offset + FLAGS] |= flag
    for change in (
        lambda one: one.set_value(r"ControlSet001\Services\vmickvp", "Start", 4, START),
        lambda one: one.delete_value(r"ControlSet001\Services\vmickvp", "Start"),
        lambda one: one.create_key(r"ControlSet001\Services\vmickvp\New"),
        lambda one: one.delete_key(r"ControlSet001\Services\vmickvp"),
    ):
        refused(change, RefusedError, "hive-key-special", bytes(raw))
    if flag == 0x10:
        below = r"ControlSet001\Services\vmickvp\Parameters\New"
        refused(lambda one: one.create_key(below), RefusedError, "hive-key-special", bytes(raw))


@pytest.mark.parametrize("flag", [0x02, 0x08, 0x40])
def test_a_tree_with_a_protected_key_is_not_deleted(flag: int) -> None:
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp\Parameters").offset + FLAGS] |= flag
    refused(lambda one: one.delete_key("ControlSet001"), RefusedError, "hive-key-special", bytes(raw))
    refused(lambda one: one.delete_key(r"ControlSet001\Services"), RefusedError, "hive-key-special", bytes(raw))


def test_a_link_goes_with_the_tree_that_it_is_in() -> None:
    """The link itself, not what it leads to."""
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp\Parameters").offset + FLAGS] |= 0x10
    edited(lambda one: one.delete_key("ControlSet001"), bytes(raw))


def test_layers_are_refused() -> None:
    raw = bytearray(HIVE)
    value = key_of(HIVE, r"ControlSet001\Services\vmbus").value("Start")
    assert value is not None
    raw[value.offset + VALUE_FLAGS] |= 2
    service = r"ControlSet001\Services\vmbus"
    refused(lambda one: one.set_value(service, "Type", 4, START), RefusedError, "hive-key-special", bytes(raw))
    refused(lambda one: one.delete_value(service, "Start"), RefusedError, "hive-key-special", bytes(raw))


@pytest.mark.parametrize("minor", [2, 6])
def test_versions_that_are_only_read(minor: int) -> None:
    with pytest.raises(RefusedError) as caught:
        editor(sealed(HIVE, minor=minor))
    assert caught.value.code == "hive-version-not-written"


@pytest.mark.parametrize(
    "raw", [sealed(HIVE, primary=9, secondary=8), HIVE[:508] + b"\0\0\0\0" + HIVE[512:]], ids=["sequence", "checksum"]
)
def test_a_dirty_hive_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        editor(raw)
    assert (caught.value.code, caught.value.exit_code) == ("hive-dirty", 4)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (HIVE[:-PAGE], "hive-truncated"),
        (sealed(HIVE, hbins=hbins_size(HIVE) + PAGE), "hive-truncated"),
        (sealed(HIVE, hbins=hbins_size(HIVE) - 512), "hive-bins-size"),
        (HIVE[:PAGE] + b"nibh" + HIVE[PAGE + 4 :], "hive-bin"),
    ],
)
def test_a_hive_that_is_cut_off_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(DamagedError) as caught:
        editor(raw)
    assert caught.value.code == code


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_key_is_refused_by_name_and_others_are_edited() -> None:
    at = Bytes()
    at.put(at.data("Values") + 60, 2)  # its longest name is longer than it says
    error = refused(lambda one: one.set_value("Values", "n", 4, START), DamagedError, "hive-max-lengths", bytes(at.raw))
    assert error.offset == at.data("Values") - 4
    started = editor(bytes(at.raw))
    assert started.set_value("Select", "Current", 4, START)
    assert started.create_key(r"Values\Below")  # its values are not touched
    started.finish()


def test_a_list_that_is_out_of_order_is_refused() -> None:
    at = Bytes()
    listed = at.cell(at.data("Many") + 28) + 4
    entries = at.raw[listed : listed + 16]
    at.raw[listed : listed + 16] = entries[8:] + entries[:8]
    raw = bytes(at.raw)
    refused(lambda one: one.create_key(r"Many\New"), DamagedError, "hive-subkey-order", raw)
    refused(lambda one: one.delete_key(r"Many\Key30"), DamagedError, "hive-subkey-order", raw)
    refused(lambda one: one.delete_key("Many"), DamagedError, "hive-subkey-order", raw)
    assert editor(raw).set_value(r"Many\Key30", "n", 4, START)


def test_a_bin_whose_cells_do_not_fill_it_is_refused() -> None:
    """Windows does not load such a hive; writing into it would not make it better."""
    at = Bytes()
    at.put(at.data("Select") - 4, at.get(at.data("Select") - 4, "<i") - 8, "<i")
    started = editor(bytes(at.raw))
    started.set_value("Select", "Current", 4, START)
    with pytest.raises(DamagedError) as caught:
        started.finish()
    assert caught.value.code in ("hive-cell-size", "hive-cell-out-of-range")


def test_a_change_that_fails_in_the_middle_leaves_no_hive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdtool.registry.cell_allocator.HBINS_LIMIT", hbins_size(HIVE))
    started = editor()
    with pytest.raises(OutputError) as caught:
        started.set_value("Key", "v", 3, bytes(100_000))
    assert caught.value.code == "hive-full"
    for again in (started.finish, lambda: started.create_key("A")):
        with pytest.raises(OutputError) as caught:
            again()
        assert caught.value.code == "hive-edit-broken"


def test_a_finished_editor_takes_no_more() -> None:
    started = editor()
    started.create_key("A")
    assert started.finish() is started.finish()
    with pytest.raises(ValueError, match="finished"):
        started.create_key("B")


# --- base block, logs, growth ----------------------------------------------------------------------------------------


def test_the_base_block_keeps_what_it_says() -> None:
    raw = sealed(HIVE, flags=2, written=0x01D9_0000_1234_5678)
    made = edited(lambda one: one.set_value("Key", "v", 3, bytes(9000)), raw)
    assert struct.unpack_from("<II", made, 4) == (8, 8)
    assert made[12:40] == raw[12:40]
    assert made[44:508] == raw[44:508]
    assert hbins_size(made) == hbins_size(raw) + 3 * PAGE


@pytest.mark.parametrize(("sequence", "after"), [(0xFFFFFFFF, 0), (0, 1)])
def test_sequence_numbers_wrap_around(sequence: int, after: int) -> None:
    raw = sealed(HIVE, primary=sequence, secondary=sequence)
    made = edited(lambda one: one.create_key("A"), raw)
    assert struct.unpack_from("<II", made, 4) == (after, after)


def test_growth_fills_the_files_tail_first() -> None:
    """Whatever lies there: a new bin is written whole."""
    raw = HIVE + b"\xaa" * (5 * PAGE + 700)
    made = edited(lambda one: one.set_value("Key", "v", 3, bytes(SEGMENT)), raw)
    assert len(made) == len(raw)
    assert made[len(HIVE) + 5 * PAGE :] == raw[len(HIVE) + 5 * PAGE :]
    started = editor(raw)
    started.set_value("Key", "v", 3, bytes(2 * SEGMENT))
    result = started.finish()
    assert (result.grew_from, result.size) == (len(raw), len(HIVE) + 8 * PAGE)
    written(raw, result)


RECOVERED = build_hive(
    {"Select": {"Current": 2}, **{f"Many\\Key{number}": {"n": b"12345" * 80} for number in range(300)}},
    sequences=(7, 7),
)


def recovered_and_edited(raw: bytes, logs: dict[str, bytes], base: bytes) -> tuple[bytes, EditedHive]:
    """Edit a dirty hive; without its logs, and with them beside it, it is what was recovered and edited."""
    started = editor(raw, logs)
    assert started.set_value("Select", "Current", 4, START)
    assert started.create_key("New")
    result = started.finish()
    made = written(raw, result)
    assert check_hive(BytesSource(made)) == ()
    expected = content_of_hive(base)
    expected["\\Select"] = {"Current": (4, START)}
    expected["\\New"] = {}
    assert content_of_hive(made) == expected
    beside = [(name, BytesSource(log)) for name, log in logs.items()]
    again = Hive.open(BytesSource(made), beside)
    assert (again.state, again.logs_applied) == ("clean", ())
    return made, result


def test_a_dirty_hive_is_recovered_then_edited() -> None:
    """All that the logs held is written with the edit, the file grows, and the number is above the last entry's."""
    log = hvle_log(RECOVERED, [entry(RECOVERED, 40), entry(RECOVERED, 41)], 40)
    raw = dirty(HIVE)
    assert len(RECOVERED) > len(raw) + PAGE
    made, result = recovered_and_edited(raw, {"SYSTEM.LOG1": log}, RECOVERED)
    assert result.grew_from == len(raw)
    assert result.sequence == 42
    assert struct.unpack_from("<II", made, 4) == (42, 42)
    # and a dirty hive is not made clean by an edit that changes nothing
    started = editor(raw, {"SYSTEM.LOG1": log})
    assert not started.delete_key("nothing")
    assert list(started.finish().pieces()) == []


def test_the_log_of_an_older_windows() -> None:
    """It counts where it bears the time of the hive's last write: after the edit it no longer does."""
    log = dirt_log(HIVE, RECOVERED)
    made, result = recovered_and_edited(dirty(HIVE), {"SYSTEM.LOG": log}, RECOVERED)
    assert result.sequence == 3
    again = Hive.open(BytesSource(dirty(made, 4, 3)), [("SYSTEM.LOG", BytesSource(log))])
    assert (again.state, again.logs_applied) == ("dirty", ())


def test_a_clean_hive_gets_a_number_above_its_logs() -> None:
    log = hvle_log(HIVE, [entry(HIVE, 2107 + number, [0]) for number in range(24)], 2107)
    started = editor(HIVE, {"SYSTEM.LOG1": bytes(100), "SYSTEM.LOG2": log})
    started.create_key("A")
    result = started.finish()
    assert result.sequence == 2131
    again = Hive.open(BytesSource(written(HIVE, result)), [("SYSTEM.LOG2", BytesSource(log))])
    assert again.state == "clean"


@pytest.mark.data
@pytest.mark.parametrize(("folder", "name"), [("NewDirtyHive1", "NewDirtyHive"), ("OldDirtyHive", "OldDirtyHive")])
def test_real_dirty_hives(folder: str, name: str, tmp_path: Path) -> None:
    """Recovered and edited; with its old logs beside it, it stays as it was edited."""
    path = data_file(f"hives/yarp/{folder}/{name}")
    logs = [(log.name, BytesSource(log.read_bytes())) for log in sorted(path.parent.glob(path.name + ".LOG*"))]
    hive = Hive.open(BytesSource(path.read_bytes()), logs, path=name)
    expected = content_of_hive(hive.image.read_at(0, hive.image.size))
    assert hive.state == "recovered"
    started = HiveEditor(hive)
    assert started.set_value("Added", "v", 3, b"12345")
    result = started.finish()
    made = written(path.read_bytes(), result)
    expected["\\Added"] = {"v": (3, b"12345")}
    assert content_of_hive(made) == expected
    assert {problem.code for problem in check_hive(BytesSource(made))} <= {"hive-cell-orphan"}  # Windows leaves them
    again = Hive.open(BytesSource(made), logs)
    assert (again.state, again.logs_applied) == ("clean", ())
    assert result.sequence > hive.base.primary_sequence


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
