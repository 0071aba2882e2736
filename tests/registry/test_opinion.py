"""What foreign readers must say of an edited hive, and their known faults, each reproduced.

A fault's test that fails because the library now reads right means that the fault's entry has to go.
"""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import pytest

from tests.data_files import data_file
from tests.registry.build_hive import Typed, build_hive
from vhdtool.bytesource import BytesSource
from vhdtool.errors import OpinionError
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.foreign_hive import DISSECT_REGF, PYTHON_REGISTRY
from vhdtool.registry.hive import Hive
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, SetValue
from vhdtool.registry.opinion import confirm_hive
from vhdtool.registry.reader_faults import AVOIDED, FAULTS

Registry = pytest.importorskip("Registry.Registry")
regf = pytest.importorskip("dissect.regf.regf")
DWORD, SZ, MULTI_SZ, QWORD, BIG_ENDIAN = 4, 1, 7, 11, 5
REAL = [
    "hives/mkorman90__regipy/SYSTEM.xz",
    "hives/fox-it__dissect.regf/SYSTEM.gz",
    "hives/ColinFinck__nt-hive/testhive",
    *(f"hives/yarp/{name}Hive" for name in ("ManySubkeys", "BigData", "Unicode", "ExtendedASCII", "MultiSz")),
]
SERVICES = "ControlSet001\\Services"


def hive_of(operations=(), **keys):
    """A small SYSTEM hive, edited by us."""
    services = {f"{SERVICES}\\svc{number}": {"Start": 3, "ImagePath": "x.sys"} for number in range(40)}
    built = build_hive(services | keys)
    editor = HiveEditor(Hive.open(BytesSource(built)))
    for operation in operations:
        editor.apply(operation)
    edited = editor.finish()
    return edited.image.read_at(0, edited.size)


def confirm(data, operations, **options):
    return confirm_hive(BytesSource(data), operations, path="/Windows/System32/config/SYSTEM", **options)


def refused(data, operations, code="second-opinion-hive", **options):
    with pytest.raises(OpinionError) as caught:
        confirm(data, operations, **options)
    assert (caught.value.code, caught.value.path) == (code, "/Windows/System32/config/SYSTEM")
    assert caught.value.hint
    return caught.value.message


OPERATIONS = (
    SetValue(f"{SERVICES}\\svc7", "Start", DWORD, struct.pack("<I", 2)),
    SetValue(f"{SERVICES}\\New\\Below", "", SZ, "text\0".encode("utf-16-le")),
    SetValue(f"{SERVICES}\\svc8", "Big", 3, bytes(range(256)) * 200),
    DeleteValue(f"{SERVICES}\\svc9", "ImagePath"),
    CreateKey(f"{SERVICES}\\Empty"),
    DeleteKey(f"{SERVICES}\\svc10"),
)


def test_edits_of_every_kind_are_confirmed():
    verdict = confirm(hive_of(OPERATIONS), OPERATIONS)
    assert (verdict.questions, verdict.confirmed, verdict.unconfirmed) == (9, 9, ())
    assert [(reader.reader, reader.confirmed, reader.left_out) for reader in verdict.readers] == [
        (PYTHON_REGISTRY, 9, ())
    ]
    assert all(reader.version for reader in verdict.readers)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_edit_that_was_not_made(operation):
    made = [one for one in OPERATIONS if one is not operation]
    if isinstance(operation, CreateKey):
        refused(hive_of(made), OPERATIONS)
    assert "not" in refused(hive_of(made), [operation]) or "still" in refused(hive_of(made), [operation])


def test_one_bit_of_a_value():
    data = bytearray(hive_of(OPERATIONS))
    place = data.index("text".encode("utf-16-le"))
    assert confirm(bytes(data), OPERATIONS)
    data[place] ^= 1
    message = refused(bytes(data), OPERATIONS)
    assert "Below" in message
    assert "other data" in message


@pytest.mark.parametrize("what", ["type", "data", "name", "key name", "list", "count"])
def test_one_bit_of_a_structure(what):
    data = bytearray(hive_of(OPERATIONS))
    vk = data.index(b"Start", data.index(b"svc7"))
    key = data.index(b"svc7") - 76
    place = {"type": vk - 8, "data": vk - 12, "name": vk, "key name": key + 76, "list": key + 0x28, "count": key + 0x24}
    assert data[vk - 20 : vk - 18] == b"vk"
    assert data[key : key + 2] == b"nk"
    data[place[what]] ^= 1
    refused(bytes(data), OPERATIONS[:1])


def test_a_list_that_is_longer_than_its_count():
    data = bytearray(hive_of(OPERATIONS))
    key = data.index(b"Services") - 76
    count = int.from_bytes(data[key + 0x14 : key + 0x18], "little")
    data[key + 0x14 : key + 0x18] = (count - 1).to_bytes(4, "little")
    assert "lists" in refused(bytes(data), OPERATIONS)


def test_what_lay_in_a_deleted_key_is_not_in_the_new_one():
    again = [DeleteKey(f"{SERVICES}\\svc10"), SetValue(f"{SERVICES}\\svc10", "Start", DWORD, bytes(4))]
    assert confirm(hive_of(again), again).confirmed == 2
    assert "anew" in refused(hive_of(again[1:]), again)


def test_a_dirty_hive_and_no_hive():
    data = bytearray(hive_of())
    data[8] ^= 1
    operations = [SetValue(f"{SERVICES}\\svc7", "Start", DWORD, struct.pack("<I", 3))]
    assert "not clean" in refused(bytes(data), operations)
    assert "not clean" in refused(bytes(data), [])
    assert "REGF" in refused(bytes(8192), operations)
    assert "empty" in refused(b"", operations)
    assert refused(hive_of()[:6000], operations)


def test_the_second_reader_is_asked_where_the_first_is_wrong():
    operations = [SetValue(f"{SERVICES}\\svc7", "Number", BIG_ENDIAN, b"\0\0\0\x2a"), OPERATIONS[0]]
    verdict = confirm(hive_of(operations), operations)
    assert verdict.confirmed == verdict.questions == 3
    first, second = verdict.readers
    assert (first.confirmed, second.confirmed) == (2, 1)
    assert [(left.fault, left.questions) for left in first.left_out] == [("big-endian", 1)]
    assert second.reader == DISSECT_REGF
    broken = hive_of(operations).replace(b"\0\0\0\x2a", b"\0\0\0\x2b")
    assert DISSECT_REGF in refused(broken, operations)


def test_what_nobody_can_confirm():
    """A key whose name is half a surrogate pair."""
    operations = [SetValue(f"{SERVICES}\\\ud801", "Start", DWORD, bytes(4))]
    data = hive_of(operations)
    message = refused(data, operations, "unconfirmed")
    assert "python-registry: name-surrogate" in message
    assert "dissect.regf: name-unpaired" in message
    verdict = confirm(data, operations, single_opinion=True)
    assert (verdict.confirmed, len(verdict.unconfirmed)) == (0, 2)
    assert [reader.confirmed for reader in verdict.readers] == [0, 0]


@pytest.mark.parametrize("name", ["Ünï", "ключ", "ß2", "日本", "\U00010410", "a" * 200])
def test_names_that_are_not_ascii(name):
    operations = [
        SetValue(f"{SERVICES}\\{name}", name, SZ, b"x\0\0\0"),
        DeleteValue(f"{SERVICES}\\{name}", f"{name}2"),
        DeleteKey(f"{SERVICES}\\{name}2"),
    ]
    data = hive_of(operations)
    assert confirm(data, operations).unconfirmed == ()
    other_case = name.swapcase() if name not in {"ß2", "\U00010410"} else name  # as Windows folds them: not at all
    swapped = [SetValue(f"{SERVICES}\\{other_case}", name, SZ, b"x\0\0\0")]
    assert confirm(data, swapped).unconfirmed == ()
    refused(data, [DeleteKey(f"{SERVICES}\\{name}")])


# --- known faults ---------------------------------------------------------------------------------------------------


def values_of(stored, minor=5):
    """A hive with the values in one key, as both libraries read them by themselves: type and data by name."""
    data = build_hive({"Key": stored}, minor=minor)
    theirs = {}
    for value in Registry.Registry(io.BytesIO(data)).open("Key").values():
        theirs[value.name()] = (value.value_type(), value.raw_data())
    others = {
        value.name: (value.type, value.data) for value in regf.RegistryHive(io.BytesIO(data)).open("Key").values()
    }
    return data, theirs, others


def check_left_out(data, fault, kind, raw, *, name="v", key="Key"):
    """What the first reader can't be asked for is asked of the second, and right there."""
    verdict = confirm(data, [SetValue(key, name, kind, raw)])
    assert verdict.unconfirmed == ()
    assert fault in {left.fault for reader in verdict.readers for left in reader.left_out}
    assert {reader.reader for reader in verdict.readers} == {PYTHON_REGISTRY, DISSECT_REGF}


def test_fault_inline_tail():
    """Bytes after a short string are what lay there before."""
    data = bytearray(build_hive({"Key": {"v": Typed(SZ, b"a\0")}}))
    place = data.index(b"vk") + 8
    data[place + 2 : place + 4] = b"zz"
    value = Registry.Registry(io.BytesIO(bytes(data))).open("Key").value("v")
    assert value.raw_data() == b"a\0zz"
    assert confirm(bytes(data), [SetValue("Key", "v", SZ, b"a\0")]).readers[0].confirmed == 2


@pytest.mark.parametrize("raw", [b"a\0", b"a\0\0\0", b"\0\0"])
def test_fault_multi_sz_inline(raw):
    data, theirs, others = values_of({"v": Typed(MULTI_SZ, raw)})
    assert theirs["v"] == (MULTI_SZ, b"")
    assert others["v"] == (MULTI_SZ, raw)
    check_left_out(data, "multi-sz-inline", MULTI_SZ, raw)


@pytest.mark.parametrize(("kind", "size"), [(DWORD, 8), (QWORD, 4), (QWORD, 16)])
def test_fault_number_size(kind, size):
    raw = bytes(range(1, size + 1))
    data, theirs, others = values_of({"v": Typed(kind, raw)})
    assert theirs["v"][1][:size] != raw
    assert others["v"] == (kind, raw)
    check_left_out(data, "number-size", kind, raw)


def test_numbers_of_fewer_bytes_are_read_right():
    operations = [SetValue("Key", "v", DWORD, b"\1\2"), SetValue("Key", "w", QWORD, b"\1\2\3\4\5\6")]
    data, _, _ = values_of({"v": Typed(DWORD, b"\1\2"), "w": Typed(QWORD, b"\1\2\3\4\5\6")})
    assert confirm(data, operations).readers[0].confirmed == 3


def test_fault_big_endian():
    data, theirs, others = values_of({"v": Typed(BIG_ENDIAN, b"\0\0\0\x2a")})
    assert theirs["v"][1] != b"\0\0\0\x2a"
    assert others["v"] == (BIG_ENDIAN, b"\0\0\0\x2a")
    check_left_out(data, "big-endian", BIG_ENDIAN, b"\0\0\0\x2a")


def test_fault_type_masked():
    data, theirs, others = values_of({"v": Typed(0xFFFF0007, b"12345678")})
    assert theirs["v"][0] == 7
    assert others["v"] == (0xFFFF0007, b"12345678")
    check_left_out(data, "type-masked", 0xFFFF0007, b"12345678")


def test_fault_filetime_inline():
    data, theirs, others = values_of({"v": Typed(0x10, b"abcd")})
    assert theirs["v"][1] != b"abcd"
    assert others["v"] == (0x10, b"abcd")
    check_left_out(data, "filetime-inline", 0x10, b"abcd")


def test_fault_flat_as_big_data():
    raw = b"db\2\0" + bytes(range(250)) * 100
    data = build_hive({"Key": {"v": Typed(3, raw)}}, minor=3)
    with pytest.raises((struct.error, RecursionError, AttributeError, IndexError, AssertionError)):
        assert Registry.Registry(io.BytesIO(data)).open("Key").value("v").raw_data() == raw
    check_left_out(data, "flat-as-big-data", 3, raw)


def test_fault_big_data_version():
    """Big data came with version 1.4; one library knows it from 1.5 on."""
    raw = b"\1" + bytes(range(250)) * 100
    data = build_hive({"Key": {"v": Typed(3, raw)}}, minor=4)
    value = next(iter(regf.RegistryHive(io.BytesIO(data)).open("Key").values()))
    assert value.data != raw
    assert confirm(data, [SetValue("Key", "v", 3, raw)]).readers[0].confirmed == 2
    both = [SetValue("Key", "v", 0xFFFF0003, raw)]
    assert "big-data-version" in refused(
        build_hive({"Key": {"v": Typed(0xFFFF0003, raw)}}, minor=4), both, "unconfirmed"
    )


@pytest.mark.parametrize("name", ["\x80", "\x99a", "\x81"])
def test_fault_name_cp1252(name):
    data = build_hive({f"Key\\{name}": {"v": 1}, "Key\\other": {}})
    subkeys = Registry.Registry(io.BytesIO(data)).open("Key").subkeys()
    try:
        names = [key.name() for key in subkeys]
    except UnicodeDecodeError:
        names = []
    assert name not in names
    check_left_out(data, "name-cp1252", DWORD, b"\1\0\0\0", key=f"Key\\{name}")
    beside = [SetValue("Key\\other\\x", "v", DWORD, bytes(4))]  # a neighbour with such a name is no hindrance
    assert "other" in refused(data, beside)
    assert confirm(data, [CreateKey("Key\\other")]).readers[0].confirmed == 1


def test_fault_name_cp1252_of_a_character_that_has_one():
    """What is stored as byte 80 reads as the euro sign: a key of that name is not there."""
    data = build_hive({"Key\\\x80": {"v": 1}})
    assert [key.name() for key in Registry.Registry(io.BytesIO(data)).open("Key").subkeys()] == ["€"]
    verdict = confirm(data, [DeleteKey("Key\\€")])
    assert [(reader.reader, reader.confirmed) for reader in verdict.readers][1:] == [(DISSECT_REGF, 1)]


def test_fault_name_surrogate():
    data = build_hive({"Key\\\ud801": {"v": 1}})
    with pytest.raises(UnicodeDecodeError):
        Registry.Registry(io.BytesIO(data)).open("Key").subkeys()[0].name()


def test_fault_name_unpaired():
    data = build_hive({"Key\\\ud801": {"v": 1}})
    names = [key.name for key in regf.RegistryHive(io.BytesIO(data)).open("Key").subkeys()]
    assert names != ["\ud801"]


def test_fault_name_utf8():
    data = build_hive({"Key\\Ã©": {"v": Typed(BIG_ENDIAN, b"\0\0\0\x2a")}})
    assert [key.name for key in regf.RegistryHive(io.BytesIO(data)).open("Key").subkeys()] == ["é"]
    message = refused(data, [SetValue("Key\\Ã©", "v", BIG_ENDIAN, b"\0\0\0\x2a")], "unconfirmed")
    assert "name-utf8" in message


def test_fault_lookup_non_ascii():
    """An lf list keeps the first letters of a name as bytes, and the library takes them for ASCII."""
    data = build_hive({"Key\\привет": {"v": Typed(BIG_ENDIAN, b"\0\0\0\x2a")}}, lists="lf", minor=3)
    with pytest.raises((regf.RegistryKeyNotFoundError, UnicodeDecodeError)):
        regf.RegistryHive(io.BytesIO(data)).open("Key\\привет")
    operations = [SetValue("Key\\привет", "v", BIG_ENDIAN, b"\0\0\0\x2a")]
    assert confirm(data, operations).unconfirmed == ()


def test_every_fault_has_its_test():
    tests = " ".join(name.replace("_", "-") for name in globals())
    assert all(f"test-fault-{fault.name}" in tests for fault in (*FAULTS, *AVOIDED))


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_big_hive_costs_no_memory():
    data = build_hive({f"Key\\{number}": {"v": bytes(1 << 20)} for number in range(16)})
    source = BytesSource(data)
    operations = [SetValue("Key\\7", "v", 3, bytes(1 << 20))]
    confirm_hive(source, operations, path="hive")
    tracemalloc.start()
    started = time.perf_counter()
    confirm_hive(source, operations, path="hive")
    took = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert took < 1


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_hives_are_confirmed_as_they_are(name):
    data = data_file(name).read_bytes()
    hive = Hive.open(BytesSource(data))
    operations = []
    for key in hive.walk():
        operations += [SetValue(key.path, value.name, value.type, value.raw) for value in key.values()]
        operations += [CreateKey(subkey.path) for subkey in key.subkeys()]
        if len(operations) > 400:
            break
    verdict = confirm(data, operations, single_opinion=True)
    assert verdict.confirmed == verdict.questions
