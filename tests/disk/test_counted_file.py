"""A file that counts what is written."""

from __future__ import annotations

from vhdtool.disk.counted_file import CountedFile
from vhdtool.disk.host_store import OS_STORE


def test_it_counts_writes_and_copies_and_nothing_else(tmp_path):
    file = CountedFile(OS_STORE.create(str(tmp_path / "file")))
    file.write_at(0, b"abcdef")
    file.copy_within(0, 10, 3)
    file.truncate(20)
    file.flush()
    assert (file.written, file.size, file.path) == (9, 20, str(tmp_path / "file"))
    buffer = bytearray(4)
    assert file.read_into(9, memoryview(buffer)) == 4
    assert (bytes(buffer), file.read_at(18, 9)) == (b"\0abc", b"\0\0")
    file.close()


def test_only_pages_that_differ_are_written(tmp_path):
    old = b"".join(bytes([number]) * 4096 for number in range(10))
    new = bytearray(old)
    for place in (0, 4095, 4 * 4096 + 7, 5 * 4096, 9 * 4096 + 4095):
        new[place] = 0xEE
    file = CountedFile(OS_STORE.create(str(tmp_path / "file")))
    file.write_at(8, old)
    file.written = 0
    file.write_differing(8, bytes(new))
    assert file.written == 4 * 4096
    assert file.read_at(8, len(new)) == new
    file.write_differing(8, bytes(new))
    assert file.written == 4 * 4096
    file.write_differing(8, bytes(new) + b"longer")
    assert file.read_at(8, 1 << 20) == bytes(new) + b"longer"
    file.close()


def test_a_clone_writes_nothing(tmp_path):
    (tmp_path / "old").write_bytes(b"x" * 100)
    file = CountedFile(OS_STORE.create(str(tmp_path / "file")))
    cloned = file.clone_from(str(tmp_path / "old"))
    assert file.size == (100 if cloned else 0)  # not every file system can
    assert file.written == 0
    file.close()
