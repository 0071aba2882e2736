from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.disk.vhdx_files import PARENT_GUID, codes, make, opened
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.device import ParentKind
from vhdtool.disk.vhdx_locator import encode_parent_locator, parse_parent_locator
from vhdtool.errors import DamagedError, UnsupportedError

LINKAGE = "{12345678-9ABC-DEF0-1234-56789abcdef0}"
PLAIN = "12345678-9abc-def0-1234-56789abcdef0"


def test_every_key_in_the_order_of_the_search() -> None:
    stored = encode_parent_locator(
        {
            "absolute_win32_path": "\\\\?\\C:\\disks\\base.vhdx",
            "parent_linkage2": "{00000000-0000-0000-0000-000000000001}",
            "volume_path": "\\\\?\\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\\base.vhdx",
            "relative_path": "..\\báse.vhdx",
            "private": "anything",
            "parent_linkage": LINKAGE,
        }
    )
    parentage, problems = parse_parent_locator(stored)
    assert problems == []
    assert parentage.linkage == (PLAIN, "00000000-0000-0000-0000-000000000001")
    assert [locator.kind for locator in parentage.locators] == [
        ParentKind.RELATIVE,
        ParentKind.VOLUME,
        ParentKind.ABSOLUTE,
    ]
    assert parentage.locators[0].path == "..\\báse.vhdx"
    assert parentage.entries["private"] == "anything"


def test_the_layer_tells_them(tmp_path: Path) -> None:
    make(tmp_path / "child.vhdx", kind="differencing")
    with opened(tmp_path / "child.vhdx") as layer:
        assert layer.info.linkage == (str(PARENT_GUID),)
        assert [(locator.kind, locator.path) for locator in layer.info.locators] == [
            (ParentKind.RELATIVE, ".\\base.vhdx")
        ]
        assert layer.parent_entries["parent_linkage"] == f"{{{PARENT_GUID}}}"
        assert codes(layer) == []


def test_no_linkage_is_told() -> None:
    parentage, problems = parse_parent_locator(encode_parent_locator({"relative_path": "base.vhdx"}), offset=77)
    assert parentage.linkage == ()
    assert [(problem.code, problem.offset) for problem in problems] == [("vhdx-parent-linkage-missing", 77)]


def test_a_closing_nul_is_no_part_of_a_text() -> None:
    parentage, _ = parse_parent_locator(
        encode_parent_locator({"parent_linkage\0": LINKAGE + "\0", "relative_path": "x\0"})
    )
    assert parentage.linkage == (PLAIN,)
    assert parentage.locators[0].path == "x"


@pytest.mark.parametrize("text", ["12345678-9abc-def0-1234-56789abcdef0", "{}", "{1234}", "{zz}", "urn:uuid:" + PLAIN])
def test_linkage_that_is_no_guid_in_braces(text: str) -> None:
    with pytest.raises(DamagedError) as caught:
        parse_parent_locator(encode_parent_locator({"parent_linkage": text}))
    assert caught.value.code == "vhdx-parent-linkage-invalid"


def test_another_type_of_locator() -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse_parent_locator(bytes(40))
    assert caught.value.code == "vhdx-parent-locator-unknown"


def raw(*entries: tuple[int, int, int, int], tail: bytes = b"k\0v\0", count: int | None = None) -> bytes:
    header = fmt.PARENT_LOCATOR_TYPE.bytes_le + struct.pack("<HH", 0, len(entries) if count is None else count)
    return header + b"".join(struct.pack("<IIHH", *entry) for entry in entries) + tail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(19),
        raw(count=1, tail=b""),
        raw(count=65535),
        raw((32, 34, 2, 0)),
        raw((32, 34, 0, 2)),
        raw((32, 34, 1, 2), tail=b"kkvv"),
        raw((32, 35, 2, 2)),
        raw((32, 34, 2, 4)),
        raw((0, 34, 2, 2)),
        raw((0xFFFFFFFF, 34, 2, 2)),
        raw((32, 0xFFFFFFFE, 2, 65534)),
        raw((32, 34, 2, 2), tail=b"k\0\0\xd8"),
        raw((32, 34, 2, 2), tail=b"k\0\0\0"),
        raw((32, 34, 2, 6), tail=b"k\0a\0\0\0b\0"),
        raw((44, 46, 2, 2), (44, 46, 2, 2)),
    ],
)
def test_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError) as caught:
        parse_parent_locator(data, offset=5)
    assert caught.value.code == "vhdx-parent-locator-damaged"
    assert caught.value.offset == 5


def test_the_raw_form_used_here_is_well_formed() -> None:
    parentage, _ = parse_parent_locator(raw((32, 34, 2, 2)))
    assert parentage.entries == {"k": "v"}
