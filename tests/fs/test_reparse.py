from __future__ import annotations

import struct

import pytest

from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.fs.reparse import (
    LX_SYMLINK,
    MOUNT_POINT,
    NAMES,
    REPARSE_HEADER,
    SYMLINK,
    Reparse,
    check_plain,
    link_target,
    parse_reparse,
)


def link(tag: int, target: str, flags: int | None = None) -> Reparse:
    name = target.encode("utf-16-le")
    data = struct.pack("<HHHH", 0, len(name), 0, 0) + (b"" if flags is None else struct.pack("<I", flags)) + name
    return parse_reparse(struct.pack("<IHH", tag, len(data), 0) + data, "/link")


def test_layouts() -> None:
    assert (REPARSE_HEADER.sizeof(), NAMES.sizeof()) == (8, 8)


@pytest.mark.parametrize(
    ("reparse", "inside", "absolute"),
    [
        (link(MOUNT_POINT, "\\??\\C:\\Users\\All"), "Users\\All", True),
        (link(MOUNT_POINT, "\\??\\c:\\"), "", True),
        (link(MOUNT_POINT, "\\??\\Volume{0}\\"), None, True),
        (link(SYMLINK, "\\??\\D:\\x", 0), "x", True),
        (link(SYMLINK, "\\??\\UNC\\server\\share", 0), None, True),
        (link(SYMLINK, "..\\x", 1), "..\\x", False),
        (link(SYMLINK, "\\x\\y", 1), "\\x\\y", True),
        (Reparse(LX_SYMLINK, struct.pack("<I", 2) + b"/usr/bin"), "/usr/bin", True),
        (Reparse(LX_SYMLINK, struct.pack("<I", 2) + b"../x"), "../x", False),
    ],
)
def test_targets(reparse: Reparse, inside: str | None, absolute: bool) -> None:
    target = link_target(reparse, "/link")
    assert target is not None
    assert (target.inside, target.absolute) == (inside, absolute)


def test_other_tags_have_no_target() -> None:
    assert link_target(Reparse(0x80000017, b""), "/x") is None


@pytest.mark.parametrize("value", [b"", b"\0" * 7, struct.pack("<IHH", SYMLINK, 100, 0)])
def test_cut_off_values(value: bytes) -> None:
    with pytest.raises(DamagedError):
        parse_reparse(value, "/x")


@pytest.mark.parametrize(
    "data", [b"", bytes(7), struct.pack("<HHHH", 0, 500, 0, 0), struct.pack("<HHHH", 60000, 2, 0, 0)]
)
def test_names_that_leave_the_data(data: bytes) -> None:
    with pytest.raises(DamagedError):
        link_target(Reparse(MOUNT_POINT, data), "/x")


@pytest.mark.parametrize(
    ("tag", "attributes"), [(0x80000013, 0), (0x9000701A, 0x00400000), (0x12345678, 0), (0x80000008, 0)]
)
def test_bytes_kept_elsewhere_are_refused(tag: int, attributes: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_plain(tag, attributes, "/x")
    assert caught.value.code == "reparse-point"


def test_cloud_files_on_the_disk_and_sockets_are_plain() -> None:
    check_plain(0x9000701A, 0x20, "/x")
    check_plain(0x80000023, 0, "/x")
