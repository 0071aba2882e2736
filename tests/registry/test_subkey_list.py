from __future__ import annotations

import struct

import pytest

from tests.registry.build_hive import NIL, build_hive
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.registry.hive import Hive

NAMES = ["Alpha", "beta", "Gamma", "Übel", "ключ", "zeta"]
IN_ORDER = ["Alpha", "beta", "Gamma", "zeta", "Übel", "ключ"]
KINDS = ["lh", "lf", "li"]


def hive_of(raw: bytes) -> Hive:
    return Hive.open(BytesSource(raw))


def made(kind: str = "lh", leaf: int = 507) -> bytearray:
    return bytearray(build_hive({name: {} for name in NAMES}, lists=kind, leaf=leaf))


def list_place(raw: bytes) -> int:
    """Where the data of the root's list begins in the file."""
    nk = hive_of(raw).root.offset + 4
    return 4096 + int(struct.unpack_from("<I", raw, nk + 28)[0]) + 4


def names(hive: Hive) -> list[str]:
    return [key.name for key in hive.root.subkeys()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leaf", [1, 2, 507])
def test_all_kinds(kind: str, leaf: int) -> None:
    hive = hive_of(bytes(made(kind, leaf)))
    assert names(hive) == IN_ORDER
    for name in NAMES:
        for spelled in (name, name.upper(), name.lower()):
            found = hive.root.subkey(spelled)
            assert found is not None
            assert found.name == name
    for missing in ("", "Alph", "Alphaa", "aaa", "zzz", "Übe", "клю", "\U00010410"):
        assert hive.root.subkey(missing) is None
    assert hive.problems == ()


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_name_on(kind: str) -> None:
    root = hive_of(bytes(made(kind, 2))).root
    for start, first in [("", 0), ("a", 0), ("ALPHA", 0), ("alphb", 1), ("c", 2), ("zeta", 3), ("zetb", 4), ("я", 6)]:
        assert [key.name for key in root.subkeys(start)] == IN_ORDER[first:]


def test_a_wrong_hash_is_told() -> None:
    raw = made("lh")
    place = list_place(raw)
    raw[place + 8] ^= 1  # the first hash: Alpha's
    hive = hive_of(bytes(raw))
    assert names(hive) == IN_ORDER
    (problem,) = hive.problems
    assert problem.code == "hive-subkey-hash"
    found = hive_of(bytes(raw)).root.subkey("alpha")
    assert found is None or found.name == "Alpha"


def test_hivex_leaves_wrong_hashes_for_other_letters() -> None:
    """The hash of the UTF-8 bytes instead of that of the UTF-16 units: found all the same, and told."""
    raw = made("lh")
    place = list_place(raw)
    struct.pack_into("<I", raw, place + 4 + 8 * 5 + 4, 0x12345678)
    hive = hive_of(bytes(raw))
    found = hive.key("ключ")
    assert found is not None
    assert found.name == "ключ"
    assert {problem.code for problem in hive.problems} == {"hive-subkey-hash"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_not_ascii_in_a_hint_of_the_old_kind(kind: str) -> None:
    hive = hive_of(build_hive({"école": {}, "ecole": {}, "éa": {}}, lists=kind))
    for name in ("ÉCOLE", "école", "ÉA"):
        assert hive.root.subkey(name) is not None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("signature", "hive-subkey-list"),
        ("zeroed", "hive-subkey-list"),
        ("many", "hive-cell-size"),
        ("nowhere", "hive-cell-out-of-range"),
        ("free", "hive-cell-free"),
    ],
)
def test_a_list_that_cannot_be_read(change: str, code: str) -> None:
    raw = made()
    place, nk = list_place(raw), hive_of(bytes(raw)).root.offset + 4
    match change:
        case "signature":
            raw[place : place + 2] = b"nk"
        case "zeroed":
            raw[place : place + 8] = bytes(8)
        case "many":
            struct.pack_into("<H", raw, place + 2, 0xFFFF)
        case "nowhere":
            struct.pack_into("<I", raw, nk + 28, 0x7FFFFFF8)
        case "free":
            struct.pack_into("<i", raw, place - 4, 64)
    hive = hive_of(bytes(raw))
    for ask in (lambda: names(hive), lambda: hive.root.subkey("beta"), lambda: hive.key("beta")):
        with pytest.raises(DamagedError) as caught:
            ask()
        assert caught.value.code == code
        assert caught.value.offset is not None


@pytest.mark.parametrize(("place", "count"), [(20, 5), (20, 7), (20, 0), (20, NIL)])
def test_another_number_than_the_list_has_is_told(place: int, count: int) -> None:
    raw = made()
    struct.pack_into("<I", raw, hive_of(bytes(raw)).root.offset + 4 + place, count)
    hive = hive_of(bytes(raw))
    found = names(hive)
    assert found in (IN_ORDER, [])
    assert "hive-subkey-count" in {problem.code for problem in hive.problems}


def test_a_list_of_itself() -> None:
    raw = made("lh", 1)
    place = list_place(raw)
    (own,) = struct.unpack_from("<I", raw, hive_of(bytes(raw)).root.offset + 4 + 28)
    struct.pack_into("<I", raw, place + 4 + 4, own)  # the second leaf is the list
    hive = hive_of(bytes(raw))
    assert names(hive) == IN_ORDER[:1] + IN_ORDER[2:]
    assert "hive-subkey-list" in {problem.code for problem in hive.problems}
    found = hive.root.subkey("gamma")
    assert found is not None  # the damage of another leaf does not matter
    with pytest.raises(DamagedError):
        hive.root.subkey("beta")  # it may have been there


def test_a_leaf_that_is_listed_twice() -> None:
    raw = made("lh", 2)
    place = list_place(raw)
    raw[place + 8 : place + 12] = raw[place + 4 : place + 8]
    hive = hive_of(bytes(raw))
    assert names(hive) == IN_ORDER[:2] + IN_ORDER[4:]
    assert hive.problems


def test_a_key_that_is_listed_twice() -> None:
    raw = made("li")
    place = list_place(raw)
    raw[place + 8 : place + 12] = raw[place + 4 : place + 8]
    hive = hive_of(bytes(raw))
    assert names(hive) == [name for name in IN_ORDER if name != "beta"]
    assert "hive-key-shared" in {problem.code for problem in hive.problems}


def test_keys_out_of_order_are_told() -> None:
    raw = made("lh")
    place = list_place(raw) + 4
    raw[place : place + 16] = raw[place + 8 : place + 16] + raw[place : place + 8]
    hive = hive_of(bytes(raw))
    assert sorted(names(hive)) == sorted(NAMES)
    assert "hive-subkey-order" in {problem.code for problem in hive.problems}
    assert hive.key("alpha") is not None


@pytest.mark.parametrize("bit", range(0, 8 * 52, 7))
def test_a_flipped_bit_in_a_list(bit: int) -> None:
    """Whatever bit: every key that is given is one of the hive's, and what is missing is told."""
    raw = made("lh")
    raw[list_place(raw) + bit // 8] ^= 1 << bit % 8
    hive = hive_of(bytes(raw))
    try:
        found = names(hive)
    except DamagedError:
        return
    assert set(found) <= set(NAMES)
    assert found == IN_ORDER or hive.problems
