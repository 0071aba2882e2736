"""One byte flipped behind our back: exactly the opinion that it concerns stops the commit, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.changing import digests, image_in, start_of
from vhdtool.bytesource import BytesSource
from vhdtool.disk import committing
from vhdtool.disk.commit import Candidate, Commit, Target
from vhdtool.disk.device import Slice
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.errors import ChangedError, OpinionError, VhdtoolError
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.registry.operation import SetValue
from vhdtool.registry.value_data import REG_DWORD
from vhdtool.transaction import transaction as transactions
from vhdtool.transaction.plan_registry import plan_registry
from vhdtool.transaction.transaction import Transaction, open_for_change

SERVICE = r"ControlSet001\Services\vmicvss"
IMAGES = ("windows-guest.vhdx", "windows-guest-child.vhdx", "windows-guest.vhd", "windows-guest-4kn.vhdx", "raw")
IN_PLACE = Target("in-place", no_children=True)


@contextmanager
def transaction(image: Path) -> Iterator[Transaction]:
    """A change of one service's start, applied to the overlay and not verified."""
    with open_for_change(str(image), IN_PLACE) as (opened, _):
        operation = SetValue(SERVICE, "Start", REG_DWORD, (2).to_bytes(4, "little"))
        plan = plan_registry(opened.installation(), "SYSTEM", [operation])
        with Transaction(opened, plan) as changing:
            changing.apply()
            yield changing


def flip(overlay: Overlay, place: int) -> None:
    overlay.write_at(place, bytes([overlay.read_at(place, 1)[0] ^ 0x01]))


def place_of(overlay: Overlay, path: str, within: int) -> int:
    """Where a byte of a guest's file lies on the disk."""
    from vhdtool.volume.partitions import read_volumes  # noqa: PLC0415

    volume = next(one for one in read_volumes(overlay).volumes if one.filesystem == "ntfs")
    for extent in NtfsFilesystem(Slice(overlay, volume.offset, volume.size)).open(path).extents():
        if extent.file_offset <= within < extent.file_offset + extent.length:
            return volume.offset + extent.volume_offset + within - extent.file_offset
    raise AssertionError("the file is not stored there")


def start_value_place(overlay: Overlay) -> int:
    """Where the lowest byte of the changed Start lies on the disk."""
    from vhdtool.registry.hive import Hive  # noqa: PLC0415
    from vhdtool.volume.partitions import read_volumes  # noqa: PLC0415

    volume = next(one for one in read_volumes(overlay).volumes if one.filesystem == "ntfs")
    path = "/Windows/System32/config/SYSTEM"
    hive = Hive.open(NtfsFilesystem(Slice(overlay, volume.offset, volume.size)).open(path))
    key = hive.key(SERVICE)
    assert key is not None
    value = key.value("Start")
    assert value is not None
    assert value.data == 2
    data = value.offset + 4 + 8  # the cell's size, then vk: signature, name length, data size
    return place_of(overlay, path, data)


def index_entry_place(overlay: Overlay) -> int:
    """Where the name SYSTEM stands in the entry of its directory's index: in an index block, or in the record."""
    raw = overlay.read_at(0, overlay.size)
    name, sibling = "SYSTEM".encode("utf-16-le"), "SYSTEM.LOG1".encode("utf-16-le")
    for mark in (b"INDX", b"FILE"):
        place = raw.find(mark)
        while place >= 0:
            block = raw[place : place + 4096]
            if sibling in block:
                for namespace in (b"\x00", b"\x01", b"\x03"):
                    found = block.find(bytes([len(name) // 2]) + namespace + name)
                    if found >= 0:
                        return place + found + 2 + 4
            place = raw.find(mark, place + 4)
    raise AssertionError("no index has the name")


def stopped_by(changing: Transaction) -> str:
    with pytest.raises(VhdtoolError) as caught:
        changing.verify()
    assert isinstance(caught.value, OpinionError)
    assert caught.value.exit_code == 7
    return caught.value.code


@pytest.mark.parametrize("name", IMAGES)
def test_flipped_hive_value_is_stopped_by_the_hive_reader(name, tmp_path):
    image = image_in(tmp_path, name)
    before = digests(tmp_path)
    with transaction(image) as changing:
        changing.verify()
        flip(changing.overlay, start_value_place(changing.overlay))
        assert stopped_by(changing) == "second-opinion-hive"
    assert digests(tmp_path) == before


@pytest.mark.parametrize("name", IMAGES)
def test_flipped_directory_entry_is_stopped_by_the_file_reader(name, tmp_path, monkeypatch):
    image = image_in(tmp_path, name)
    before = digests(tmp_path)
    with transaction(image) as changing:
        flip(changing.overlay, index_entry_place(changing.overlay))
        with pytest.raises(VhdtoolError) as caught:
            changing.verify()
        assert caught.value.code == "ntfs-check-failed", "our own checker sees it first"
        monkeypatch.setattr(transactions, "check_volumes", lambda *_: None)
        assert stopped_by(changing) == "second-opinion-files"
    assert digests(tmp_path) == before


class Flipping:
    """A commit whose would-be file has one byte of the change flipped."""

    def __init__(self, inner: Commit, byte: Callable[[bytes], int]) -> None:
        self._inner = inner
        self._byte = byte

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def prepare(self, progress: object) -> Candidate:
        candidate = self._inner.prepare(progress)  # type: ignore[arg-type]
        path, source = candidate.files[0]
        place = self._byte(source.read_at(0, source.size))
        flipped = bytes([source.read_at(place, 1)[0] ^ 0x01])
        patched = PatchedSource(source, source.size, [Patch(place, BytesSource(flipped))])
        return replace(candidate, files=((path, patched), *candidate.files[1:]))


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("kind", ["in-place", "child", "output"])
def test_flipped_byte_of_the_container_is_stopped_by_its_reader(name, kind, tmp_path, monkeypatch):
    if (name, kind) == ("raw", "child"):
        kind = "in-place"
    image = image_in(tmp_path, name)
    target = Target(kind, None if kind == "in-place" else str(tmp_path / f"new{image.suffix}"), no_children=True)
    before = digests(tmp_path)
    with transaction(image) as changing:
        guest = changing.verify()
        place = start_value_place(changing.overlay)
        page = changing.overlay.read_at(place - place % 512, 512)

        def byte(content: bytes) -> int:
            found = content.rfind(page)
            assert found >= 0
            return found + place % 512

        real = committing.commit_for
        monkeypatch.setattr(committing, "commit_for", lambda *given: Flipping(real(*given), byte))
        with pytest.raises(OpinionError) as caught:
            changing.commit(target, guest)
        assert caught.value.code == "second-opinion-container"
    assert digests(tmp_path) == before


def test_difference_after_the_commit_ends_8(tmp_path, monkeypatch):
    image = image_in(tmp_path, "windows-guest.vhdx")
    with transaction(image) as changing:
        guest = changing.verify()
        place = start_value_place(changing.overlay)
        page = changing.overlay.read_at(place - place % 512, 512)
        real = committing.commit_for

        class Spoiling(Flipping):
            def prepare(self, progress: object) -> Candidate:
                return self._inner.prepare(progress)  # type: ignore[arg-type]

            def finish(self, progress: object) -> object:
                written = self._inner.finish(progress)  # type: ignore[arg-type]
                content = bytearray(image.read_bytes())
                content[content.rfind(page) + place % 512] ^= 1
                image.write_bytes(content)
                return written

        monkeypatch.setattr(committing, "commit_for", lambda *given: Spoiling(real(*given), lambda _: 0))
        with pytest.raises(ChangedError) as caught:
            changing.commit(IN_PLACE, guest)
        assert (caught.value.code, caught.value.exit_code) == ("commit-not-confirmed", 8)
        assert caught.value.hint


def test_control_without_a_flip_is_committed(tmp_path):
    image = image_in(tmp_path, "windows-guest.vhdx")
    with transaction(image) as changing:
        receipt = changing.commit(IN_PLACE, changing.verify())
    assert receipt.written.path == str(image)
    assert start_of(image, "vmicvss") == "auto"
