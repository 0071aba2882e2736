"""A source with others laid over it."""

from __future__ import annotations

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.disk.patched_source import Patch, PatchedSource

BASE = bytes(range(100))


def test_every_range_reads_as_if_it_had_been_written():
    patches = [(90, b"x" * 20), (10, b"a" * 5), (15, b"b" * 5), (0, b"c")]
    whole = bytearray(BASE.ljust(130, b"\0"))
    for offset, data in patches:
        whole[offset : offset + len(data)] = data
    source = PatchedSource(BytesSource(BASE), 130, [Patch(offset, BytesSource(data)) for offset, data in patches])
    assert source.size == 130
    for start in range(135):
        for length in (0, 1, 7, 30, 200):
            assert source.read_at(start, length) == bytes(whole[start : start + length])


def test_it_may_be_shorter_than_its_base():
    source = PatchedSource(BytesSource(BASE), 50, [Patch(40, BytesSource(b"y" * 10))])
    assert source.read_at(30, 100) == BASE[30:40] + b"y" * 10


def test_patches_do_not_lie_over_each_other():
    patches = [Patch(5, BytesSource(b"12")), Patch(6, BytesSource(b"3"))]
    with pytest.raises(ValueError, match="over each other"):
        PatchedSource(BytesSource(BASE), 100, patches)


def test_negative_places_are_refused():
    with pytest.raises(ValueError, match="not negative"):
        PatchedSource(BytesSource(BASE), 100, ()).read_at(-1, 5)
