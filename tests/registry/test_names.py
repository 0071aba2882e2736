from __future__ import annotations

import pytest

from tests.registry.build_hive import name_hash as expected_hash
from vhdtool.registry.names import code_units, decode_name, encode_name, fold, hint_may_name, is_latin, name_hash

ASTRAL = "\U00010428"  # DESERET SMALL LETTER LONG I: D801 DC28


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("vmBus", "VMBUS"),
        ("straße", "STRAßE"),  # str.upper would make SS of it
        ("ключ", "КЛЮЧ"),
        ("éÿ", "É\u0178"),
        ("ﬁ", "ﬁ"),  # one ligature, not F and I
        ("\u0131", "\u0131"),  # dotless i has no pair
        ("", ""),
        ("\ud801", "\ud801"),
    ],
)
def test_names_are_folded_unit_by_unit(name: str, folded: str) -> None:
    assert fold(name) == folded
    assert fold(fold(name)) == folded


def test_surrogates_are_never_mapped_and_sort_as_units() -> None:
    """nt-hive's test hive, made by Microsoft's offreg.dll, has U+10410 before U+FF21."""
    assert fold(ASTRAL) == "\ud801\udc28"
    assert fold("\U00010410") < fold("\uff21")
    assert code_units(ASTRAL) == (0xD801, 0xDC28)


@pytest.mark.parametrize("name", ["", "a", "Services", "vmicheartbeat", "ключ", "Ünï", "x" * 255])
def test_hashes(name: str) -> None:
    assert name_hash(name) == expected_hash(name)
    assert name_hash(name) == name_hash(name.swapcase())


def test_a_hash_by_hand() -> None:
    assert name_hash("ab") == 65 * 37 + 66


@pytest.mark.parametrize(
    ("hint", "name", "fits"),
    [
        (b"vmbu", "vmbus", True),
        (b"VMbu", "vmbus", True),
        (b"vmic", "vmbus", False),
        (b"ab\0\0", "ab", True),
        (b"ab\0\0", "abc", False),
        (b"abc\0", "ab", False),
        (b"\xe9col", "École", True),
        (b"\0\0\0\0", "ключ", True),
        (b"\0\0\0\0", "anything", True),
    ],
)
def test_hints(hint: bytes, name: str, fits: bool) -> None:
    assert hint_may_name(hint, fold(name)) is fits


def test_stored_names() -> None:
    assert decode_name(b"\x80\xe9", compressed=True) == "\x80é"  # Latin-1: in Windows-1252 this would be the euro sign
    assert decode_name("ключ".encode("utf-16-le"), compressed=False) == "ключ"
    assert decode_name(b"\0\xd8a\0", compressed=False) == "\ud800a"
    assert decode_name(b"a\0b", compressed=False) == "a"
    assert decode_name(b"", compressed=False) == ""


@pytest.mark.parametrize(
    ("name", "stored", "latin"),
    [
        ("", b"", True),
        ("Start", b"Start", True),
        ("\x80\xff", b"\x80\xff", True),
        ("a\u0100", b"a\0\0\1", False),
        (ASTRAL, b"\x01\xd8\x28\xdc", False),
        ("\udc28", b"\x28\xdc", False),
    ],
)
def test_names_are_stored_as_they_are_read(name: str, stored: bytes, latin: bool) -> None:
    assert encode_name(name) == (stored, latin)
    assert is_latin(name) == latin
    assert decode_name(stored, compressed=latin) == name
