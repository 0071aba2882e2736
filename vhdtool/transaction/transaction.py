"""The one way in which an image is changed: all of a plan, or nothing.

    with open_for_change("server.vhdx", target) as (image, notes):
        plan = plan_registry(image.installation(), "SYSTEM", operations)
        with Transaction(image, plan) as transaction:
            receipt = transaction.run(target)

Until the last step the image is only read; that step leaves the old disk or the new one, whenever it is interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Self

from vhdtool.disk.commit import Target, Written
from vhdtool.disk.committing import OpinionOptions, commit_changes, not_confirmed
from vhdtool.disk.container_opinion import ContainerVerdict
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import ChangedError, VhdtoolError
from vhdtool.image import Image, open_image
from vhdtool.progress import SILENT, Progress
from vhdtool.transaction.apply import Applied, apply_plan
from vhdtool.transaction.plan import Plan
from vhdtool.transaction.verify import GuestVerdict, check_volumes, confirm_guest


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction did, and who confirmed it. ``seed`` chose the sample of unchanged blocks.

    ``writers`` tells what made, replaced or removed files; empty where only existing files were written into.
    """

    written: Written
    container: ContainerVerdict
    guest: GuestVerdict
    writers: tuple[str, ...]
    seed: int


@contextmanager
def open_for_change(
    path: str, target: Target | None, *, parent: str | None = None, vm: str | None = None
) -> Iterator[tuple[Image, tuple[str, ...]]]:
    """Open an image that may be changed, locked from before it is read; without a target just open it.

    In place nobody else may have it open for writing or lock it; for a child or a new image, and for all parents, it
    is enough that nobody writes. ``vm`` is the configuration of the machine that the image belongs to: what it says of
    a saved state or checkpoints is held against the image. Gives the image and what the user must know of the lock.

    Raises :class:`RefusedError` ``image-in-use``, ``is-a-parent``, ``children-unknown``, those of
    :func:`vhdtool.host.fitness.refuse_vm_state`, and what opening raises.
    """
    with ExitStack() as stack:
        notes: dict[str, None] = {}
        if target is not None:
            from vhdtool.disk.write_lock import lock_for_writing, lock_unchanged  # noqa: PLC0415  # only for writing

            lock = lock_for_writing if target.kind == "in-place" else lock_unchanged
            notes |= dict.fromkeys(stack.enter_context(lock(path)).notes)
        image = stack.enter_context(open_image(path, parent=parent))
        if target is not None:
            for above in image.disk.info.parents:
                notes |= dict.fromkeys(stack.enter_context(lock_unchanged(above)).notes)
            if target.kind == "in-place":
                from vhdtool.disk.children import refuse_parent_in_place  # noqa: PLC0415

                notes |= dict.fromkeys(refuse_parent_in_place(image.disk, target))
        if vm is not None and target is not None:
            from vhdtool.host.fitness import refuse_vm_state  # noqa: PLC0415  # only where a machine is named
            from vhdtool.host.vmconfig import read_vm_config  # noqa: PLC0415

            layers = [layer.info.path for layer in image.disk.layers]
            notes |= dict.fromkeys(refuse_vm_state(read_vm_config(vm), layers))
        yield image, tuple(notes)


class Transaction:
    """A plan on its way into an image. A context manager: leaving it drops what was not committed."""

    def __init__(
        self,
        image: Image,
        plan: Plan,
        *,
        opinions: OpinionOptions | None = None,
        store: HostStore = OS_STORE,
        progress: Progress = SILENT,
        spool_folder: str | None = None,
    ) -> None:
        self.image = image
        self.plan = plan
        self.overlay = Overlay(image.disk, spool_folder=spool_folder)
        self._opinions = (opinions or OpinionOptions()).with_seed()
        self._store = store
        self._progress = progress
        self._applied = Applied()

    def __enter__(self) -> Self:
        """Give the transaction itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the overlay."""
        self.overlay.close()

    def run(self, target: Target, notes: tuple[str, ...] = ()) -> Receipt | None:
        """Apply, verify and commit; ``notes`` go into the receipt. ``None`` where there was nothing to change."""
        if not self.plan.changes:
            return None
        self.apply()
        guest = self.verify()
        return self.commit(target, guest, notes)

    def apply(self) -> None:
        """Carry out the plan on the overlay. Raises as :func:`vhdtool.transaction.apply.apply_plan`."""
        self._applied = apply_plan(self.image, self.plan, self.overlay, self._progress)

    def verify(self) -> GuestVerdict:
        """Check the overlay by our own rules, and have it read by others.

        Raises :class:`vhdtool.errors.OutputError` ``ntfs-check-failed`` and :class:`vhdtool.errors.OpinionError`.
        """
        check_volumes(self.image, self.overlay, self._applied)
        return self._confirm(self.image, self.overlay)

    def commit(self, target: Target, guest: GuestVerdict, notes: tuple[str, ...] = ()) -> Receipt:
        """Bring the overlay to the target, and read the real file again.

        Raises as :func:`vhdtool.disk.committing.commit_changes`.
        """
        done = commit_changes(self.overlay, target, store=self._store, opinions=self._opinions, progress=self._progress)
        self._confirm_real(done.written, target)
        return Receipt(
            written=replace(done.written, notes=(*notes, *done.written.notes)),
            container=done.before,
            guest=guest,
            writers=tuple(sorted(set(self._applied.writers.values()))),
            seed=self._opinions.seed or 0,
        )

    def _confirm(self, image: Image, disk: Overlay) -> GuestVerdict:
        return confirm_guest(image, disk, self._applied, single_opinion=self._opinions.single)

    def _confirm_real(self, written: Written, target: Target) -> None:
        try:
            with open_image(written.path, parent=self._parent_path(target)) as image:
                confirm_guest(image, image.disk, self._applied, single_opinion=self._opinions.single)
        except ChangedError:
            raise
        except VhdtoolError as error:
            if target.kind == "in-place":
                raise not_confirmed(error, written) from error
            self._store.remove(written.path)
            raise

    def _parent_path(self, target: Target) -> str | None:
        if target.kind == "child":
            return self.image.disk.info.path
        parents = self.image.disk.info.parents
        return parents[0] if parents and target.kind == "in-place" else None
