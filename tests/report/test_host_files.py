from __future__ import annotations

import hashlib

import pytest

from vhdtool.errors import DamagedError, OutputError, RefusedError
from vhdtool.report.host_files import host_name, make_directory, save_file


class File:
    path = "/Windows/x"

    def __init__(self, data: bytes, fails_at: int | None = None) -> None:
        self._data = data
        self._fails_at = fails_at
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        if self._fails_at is not None and offset >= self._fails_at:
            raise DamagedError("bad-cluster", "gone")
        return self._data[offset : offset + length]

    def extents(self):
        return ()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("SYSTEM", "SYSTEM"),
        ("한국어.txt", "한국어.txt"),
        ("..", ".%2E"),
        (".", "%2E"),
        ("a/b\\c:d", "a%2Fb%5Cc%3Ad"),
        ("100%", "100%25"),
        ("con", "%63on"),
        ("NUL.txt", "%4EUL.txt"),
        ("console", "console"),
        ("ends ", "ends%20"),
        ("x\n", "x%0A"),
        ("\ud800", "%5Cud800"),
    ],
)
def test_host_name(name, safe):
    assert host_name(name) == safe


def test_host_name_fits_the_host_and_stays_unique():
    one, two = host_name("가" * 254 + "1"), host_name("가" * 254 + "2")
    assert one != two
    assert max(len(one.encode()), len(two.encode())) < 255


def test_save_file(tmp_path):
    data = bytes(range(256)) * 9000  # more than one chunk
    saved = save_file(File(data), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data
    assert (saved.size, saved.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(RefusedError, match="exists"):
        save_file(File(b"new"), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_half_a_file_is_removed(tmp_path):
    with pytest.raises(DamagedError):
        save_file(File(bytes(3 << 20), fails_at=1 << 20), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((OutputError, RefusedError)):
        make_directory(tmp_path / "file" / "x")
