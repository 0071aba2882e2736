"""What tests of changes in place need: a commit carried out, a commit refused, a commit stopped halfway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.crash.power_cut import Platter, State, record
from tests.crash.recording import Flush, FlushFolder, Operation
from tests.disk.commits import changed, folder_state
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Commit, Target, Written
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.errors import VhdtoolError
from vhdtool.progress import SILENT

Kind = Callable[..., Commit]
CHANGES = {1000: b"hello" * 200, (2 << 20) - 300: b"across blocks" * 100, (7 << 20) + 512: b"later" * 300}


def commit(kind: Kind, path: Path, changes: dict[int, bytes], store: HostStore = OS_STORE, **target) -> Written:
    """Commit in place; the disk must read as it should then, and the file must be what foreign readers were shown."""
    with changed(path, changes) as overlay:
        wanted = overlay.read_at(0, overlay.size)
        steps = kind(overlay, Target("in-place", **target), store)
        before = visible(path.parent)
        candidate = steps.prepare(SILENT)
        assert visible(path.parent) == before
        name, source = candidate.files[0]
        assert name == str(path)
        shown = source.read_at(0, source.size)
        written = steps.finish(SILENT)
        steps.abandon()
    assert path.read_bytes() == shown
    assert written.file_size == len(shown)
    with open_disk(path) as disk:
        assert disk.read_at(0, disk.size) == wanted
    return written


def visible(folder: Path) -> dict[str, str]:
    """The files of a folder that are not hidden, with digests."""
    return {name: digest for name, digest in folder_state(folder).items() if not name.startswith(".")}


def refused(kind: Kind, path: Path, error: type[VhdtoolError], code: str, store: HostStore = OS_STORE) -> VhdtoolError:
    """A commit that :meth:`prepare` refuses; nothing in the folder is changed, made or left."""
    before = folder_state(path.parent)
    with changed(path, CHANGES) as overlay:
        steps = kind(overlay, Target("in-place"), store)
        with pytest.raises(error) as caught:
            steps.prepare(SILENT)
        steps.abandon()
    assert caught.value.code == code
    assert folder_state(path.parent) == before
    return caught.value


def stopped(kind: Kind, path: Path, where: Callable[[Sequence[Operation]], int], **target) -> None:
    """Carry out a commit and cut the power: ``where`` is told the operations and says after how many of them.

    Only what had been flushed is left.
    """
    recording = record(path.parent, lambda store: commit(kind, path, CHANGES, store, **target))
    stop = where(recording.operations)
    platter = Platter(recording, path.parent.with_name("stable"))
    platter.advance(stop)
    platter.make(State(stop, "none", {}), path.parent)


def flushed(number: int) -> Callable[[Sequence[Operation]], int]:
    """After the flush of that number, counted from 0, or from the last one backwards."""

    def where(operations: Sequence[Operation]) -> int:
        return [place for place, one in enumerate(operations) if isinstance(one, Flush | FlushFolder)][number] + 1

    return where


class Full:
    """A store whose host has no room left; for the rest as that of the operating system."""

    def __init__(self, room: int) -> None:
        self._room = room

    def free_space(self, path: str) -> int:
        assert path
        return self._room

    def __getattr__(self, name: str) -> object:
        return getattr(OS_STORE, name)
