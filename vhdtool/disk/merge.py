"""A child brought into its parent: the parent then holds the child's disk, and the child is needed no more.

The parent is changed in place, by the same steps as every change. What a power cut can meet, in this order:

1. a VHDX child names the coming identity of its parent besides the present one (:mod:`vhdtool.disk.child_linkage`);
2. the parent is changed; the child, read over the old parent or the new one, is the same disk;
3. the child names its parent as it is now, or is removed.

So the chain can be opened at every moment, and the same merge again ends what was begun. Readers that know
``parent_linkage`` alone (7-Zip, libvhdi) refuse the child between 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.child_image import refuse_pending_log
from vhdtool.disk.child_linkage import announce_parent, settle_linkage
from vhdtool.disk.children import find_children, refuse_parent_in_place
from vhdtool.disk.commit import Candidate, Commit, Target, Written
from vhdtool.disk.committing import Committed, OpinionOptions, commit_changes, commit_for
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.open_layer import OpenedLayer
from vhdtool.disk.overlay import SLOT, bit_runs, differing_sectors, merged
from vhdtool.disk.vhdx import VhdxLayer
from vhdtool.disk.write_lock import lock_for_writing
from vhdtool.errors import ChangedError, RefusedError, UsageError, VhdtoolError
from vhdtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from vhdtool.disk.write_lock import WriteLock

_TOP: Final = 0


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, or would do. Sizes in bytes.

    ``merged_bytes`` of the disk are in the child and differ from the parent. ``committed`` is ``None`` where the
    parent was not changed. ``child_written``: to the child, for what it says of its parent.
    """

    child: str
    parent: str
    merged_bytes: int
    committed: Committed | None = None
    child_written: int = 0
    child_removed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Something was written or removed."""
        return self.committed is not None or self.child_written > 0 or self.child_removed


class MergeChanges:
    """What the top file of a chain holds, as :class:`vhdtool.disk.changes.Changes` to the chain below it.

    Raises :class:`UsageError` ``not-a-child``; :class:`RefusedError` ``merge-size-differs``.
    """

    def __init__(self, child: VirtualDisk) -> None:
        info = child.layers[0].info
        if len(child.layers) < 2:
            raise UsageError(
                "not-a-child",
                "the image is not differencing, so there is no parent to merge it into",
                path=info.path,
                found=f"a {info.type} {info.format} image",
            )
        layers = list(map(OpenedLayer, child.layers[1:], child.files[1:]))
        self.base = VirtualDisk(layers)
        self._child = child
        self._differing: dict[int, int] | None = None  # MiB of the disk -> bit for each sector that differs
        if self.base.size != child.size:
            raise RefusedError(
                "merge-size-differs",
                "parent and child are disks of different sizes",
                path=info.path,
                expected=f"{self.base.size} bytes, as the parent",
                found=f"{child.size} bytes",
                hint="Write the child's disk to an image of its own: vhdtool disk convert CHILD OUTPUT.",
            )

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.base.size

    @property
    def logical_sector_size(self) -> int:
        """512 or 4096."""
        return self.base.logical_sector_size

    def read_at(self, offset: int, length: int) -> bytes:
        """As :meth:`vhdtool.disk.changes.Changes.read_at`."""
        return self._child.read_at(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As :meth:`vhdtool.disk.changes.Changes.read_into`."""
        return self._child.read_into(offset, buffer)

    def changed(self) -> Iterator[tuple[int, int]]:
        """As :meth:`vhdtool.disk.changes.Changes.changed`; found once, because the disk below becomes the same."""
        if self._differing is None:
            self._differing = {slot: mask for slot in self._own_slots() if (mask := self._difference(slot))}
        sector = self.logical_sector_size
        yield from merged(
            (slot * SLOT + start * sector, (stop - start) * sector)
            for slot, mask in self._differing.items()
            for start, stop in bit_runs(mask, SLOT // sector)
        )

    def _own_slots(self) -> Iterator[int]:
        """Every MiB, in order, in which the child itself says what is there, and it could be something else."""
        last = -1
        for extent in self._child.extents():
            if extent.layer != _TOP:
                continue
            spans = [(extent.offset, extent.length)]
            if extent.kind == "zero":  # only over data does it matter
                below = self.base.extents(extent.offset, extent.length)
                spans = [(each.offset, each.length) for each in below if each.kind == "data"]
            for offset, length in spans:
                for slot in range(max(last + 1, offset // SLOT), (offset + length - 1) // SLOT + 1):
                    yield slot
                    last = slot

    def _difference(self, slot: int) -> int:
        """Where the child does not say what is there, both read the same."""
        new, old = self._child.read_at(slot * SLOT, SLOT), self.base.read_at(slot * SLOT, SLOT)
        return differing_sectors(new, old, self.logical_sector_size)


def merge_child(
    path: str,
    target: Target | None,
    *,
    parent: str | None = None,
    remove_child: bool = False,
    opinions: OpinionOptions | None = None,
    store: HostStore = OS_STORE,
    progress: Progress = SILENT,
) -> Merged:
    """Bring the differencing image ``path`` into its parent; without a target only tell what would be done.

    Both files are locked while it is done. ``parent`` names the parent where the child's own locators lead to none.

    Raises:
        UsageError: ``not-a-child``.
        RefusedError: ``log-pending``, ``merge-size-differs``, ``image-in-use``, ``is-a-parent`` where the parent has
            other children or the child that shall be removed has some, ``children-unknown``.
        OutputError, OpinionError, ChangedError: as :func:`vhdtool.disk.committing.commit_changes`;
            ChangedError ``merge-unfinished`` where the parent is changed and the child could not be brought to rest.
    """
    if target is None:
        with open_disk(path, parent=parent) as disk:
            changes = _changes_of(disk)
            return Merged(path, changes.base.info.path, sum(length for _, length in changes.changed()))
    with ExitStack() as stack:
        child_lock = stack.enter_context(lock_for_writing(path))
        found = _parent_of(path, parent)
        parent_lock = stack.enter_context(lock_for_writing(found))
        merge = _Merge(path, found, target, store, child_lock, remove_child=remove_child)
        return merge.run((*child_lock.notes, *parent_lock.notes), opinions, progress)


def _parent_of(path: str, named: str | None) -> str:
    with open_disk(path, parent=named) as disk:
        return _changes_of(disk).base.info.path


def _changes_of(disk: VirtualDisk) -> MergeChanges:
    changes = MergeChanges(disk)
    refuse_pending_log(disk)
    return changes


class _Merge:
    """A merge under way; both files are locked."""

    def __init__(
        self, path: str, parent: str, target: Target, store: HostStore, lock: WriteLock, *, remove_child: bool
    ) -> None:
        self._path = path
        self._parent = parent
        self._target = target
        self._store = store
        self._lock = lock
        self._remove_child = remove_child
        self._child_written = 0

    def run(self, notes: tuple[str, ...], opinions: OpinionOptions | None, progress: Progress) -> Merged:
        if self._remove_child:
            _refuse_to_remove(self._path, self._target)
        with open_disk(self._path, parent=self._parent) as disk:
            changes = _changes_of(disk)
            notes += refuse_parent_in_place(changes.base, self._target, besides=[self._path])
            size = sum(length for _, length in changes.changed())
            committed = None
            if size:
                steps = self._steps(disk, changes)
                committed = commit_changes(
                    changes, self._target, commit=steps, store=self._store, opinions=opinions, progress=progress
                )
        try:
            self._bring_to_rest()
        except VhdtoolError as error:
            if committed is None:
                raise
            raise ChangedError(
                "merge-unfinished",
                f"the parent holds the child's disk now, but the child could not be brought to rest: {error.message}",
                path=self._path,
                hint="Both can be opened. Merge once more to end it, or remove the child: it is not needed any more.",
            ) from error
        if not self._remove_child:
            notes += (f"{self._path} reads as before and is not needed any more: it may be removed.",)
        return Merged(self._path, self._parent, size, committed, self._child_written, self._remove_child, notes)

    def _steps(self, disk: VirtualDisk, changes: MergeChanges) -> Commit:
        child = disk.layers[0]
        if not isinstance(child, VhdxLayer):
            return commit_for(changes, self._target, self._store)
        from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit  # noqa: PLC0415  # for VHDX only

        coming = uuid4()
        inner = VhdxInPlaceCommit(changes, self._target, self._store, data_write_guid=coming)
        return _AnnouncedCommit(inner, lambda: self._announce(child, coming), self._withdraw)

    def _announce(self, child: VhdxLayer, coming: UUID) -> None:
        self._child_written += announce_parent(child, coming, self._store)

    def _withdraw(self) -> None:
        """The parent is as it was: let the child say so, as well as can be."""
        with suppress(VhdtoolError):
            settle_linkage(self._path, self._parent, self._store)

    def _bring_to_rest(self) -> None:
        if not self._remove_child:
            self._child_written += settle_linkage(self._path, self._parent, self._store)
            return
        self._lock.release()  # a file that is open can't be removed on Windows
        self._store.remove(self._path)
        self._store.flush_folder(self._path)


class _AnnouncedCommit:
    """A commit that tells the child of the parent's coming identity right before it is made."""

    def __init__(self, commit: Commit, announce: Callable[[], None], withdraw: Callable[[], None]) -> None:
        self._commit = commit
        self._announce = announce
        self._withdraw = withdraw

    def prepare(self, progress: Progress) -> Candidate:
        return self._commit.prepare(progress)

    def finish(self, progress: Progress) -> Written:
        try:
            self._announce()
            return self._commit.finish(progress)
        except ChangedError:
            raise
        except VhdtoolError:
            self._withdraw()
            raise

    def abandon(self) -> None:
        self._commit.abandon()


def _refuse_to_remove(path: str, target: Target) -> None:
    children = find_children(path, target.children_folders).children
    if children:
        raise RefusedError(
            "is-a-parent",
            "differencing images stand on the child, so it can't be removed",
            path=path,
            found=", ".join(children[:8]),
            hint="Merge those first, or merge without --remove-child.",
        )
