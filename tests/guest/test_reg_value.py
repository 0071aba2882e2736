from __future__ import annotations

import pytest

from vhdtool.errors import UsageError
from vhdtool.guest.reg_value import TYPES, shown_data, value_data, value_type

REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_DWORD_BIG_ENDIAN = range(6)
REG_MULTI_SZ, REG_QWORD = 7, 11


@pytest.mark.parametrize(
    ("kind", "data", "stored"),
    [
        (REG_SZ, "one", b"o\0n\0e\0\0\0"),
        (REG_SZ, None, b"\0\0"),
        (REG_SZ, "", b"\0\0"),
        (REG_EXPAND_SZ, "%X%", b"%\0X\0%\0\0\0"),
        (REG_SZ, "ä\U0001f600", b"\xe4\0\x3d\xd8\x00\xde\0\0"),
        (REG_NONE, "a", b"a\0\0\0"),
        (REG_DWORD, "10", b"\x0a\0\0\0"),
        (REG_DWORD, "0x10", b"\x10\0\0\0"),
        (REG_DWORD, "0XFFFFFFFF", b"\xff\xff\xff\xff"),
        (REG_DWORD, "", b"\0\0\0\0"),
        (REG_DWORD_BIG_ENDIAN, "1", b"\0\0\0\1"),
        (REG_QWORD, "18446744073709551615", b"\xff" * 8),
        (REG_BINARY, "00fF10", b"\x00\xff\x10"),
        (REG_BINARY, "fff", b"\x0f\xff"),
        (REG_BINARY, "", b""),
        (REG_MULTI_SZ, r"one\0two", b"o\0n\0e\0\0\0t\0w\0o\0\0\0\0\0"),
        (REG_MULTI_SZ, r"one\0", b"o\0n\0e\0\0\0\0\0"),
        (REG_MULTI_SZ, "", b"\0\0"),
    ],
)
def test_what_reg_exe_stores(kind: int, data: str | None, stored: bytes) -> None:
    assert value_data(kind, data) == stored


def test_another_separator() -> None:
    assert value_data(REG_MULTI_SZ, "a;b", separator=";") == b"a\0\0\0b\0\0\0\0\0"
    assert value_data(REG_MULTI_SZ, r"a\0b", separator=";") == "a\\0b\0\0".encode("utf-16-le")


@pytest.mark.parametrize(
    ("kind", "data", "separator"),
    [
        (REG_DWORD, "4294967296", None),
        (REG_DWORD, "-1", None),
        (REG_DWORD, "0x", None),
        (REG_DWORD, "1f", None),
        (REG_DWORD, "9" * 5000, None),
        (REG_DWORD, "\u0661", None),  # a digit, and none that REG.EXE knows
        (REG_QWORD, "18446744073709551616", None),
        (REG_BINARY, "0g", None),
        (REG_MULTI_SZ, r"a\0\0b", None),
        (REG_MULTI_SZ, "a", ""),
        (REG_MULTI_SZ, "a", "ab"),
        (REG_SZ, "a\0b", None),
        (REG_SZ, "\udcff", None),
    ],
)
def test_what_a_type_can_not_hold(kind: int, data: str, separator: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        value_data(kind, data, separator=separator)
    assert (raised.value.code, raised.value.exit_code) == ("reg-data", 2)


def test_types() -> None:
    assert value_type(None) == REG_SZ
    assert value_type(" reg_dword ") == REG_DWORD
    with pytest.raises(UsageError) as raised:
        value_type("REG_LINK")
    assert raised.value.code == "reg-type"


@pytest.mark.parametrize("name", TYPES)
def test_what_is_stored_is_shown_again(name: str) -> None:
    kind = value_type(name)
    data = {REG_BINARY: "00FF", REG_MULTI_SZ: r"a\0b"}.get(kind, "7")
    shown = shown_data(kind, value_data(kind, data))
    expected = {REG_BINARY: "00FF", REG_MULTI_SZ: ("a", "b"), REG_NONE: "37000000", REG_SZ: "7", REG_EXPAND_SZ: "7"}
    assert shown == expected.get(kind, 7)
