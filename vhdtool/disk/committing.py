"""One commit from its choice to its receipt: prepare, ask foreign readers, finish, ask them again.

Everything that changes an image goes through :func:`commit_changes`; which steps it takes is the target's and the
format's matter (:func:`commit_for`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vhdtool.disk.chain import open_disk
from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Commit, Target, Written
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.errors import ChangedError, OpinionError, UsageError, VhdtoolError
from vhdtool.progress import SILENT, Progress

if TYPE_CHECKING:
    from vhdtool.disk.container_opinion import ContainerVerdict

UNDO_BY_COPY = "Restore the image from a copy; until then: vhdtool disk verify IMAGE tells what is wrong."


@dataclass(frozen=True, slots=True)
class OpinionOptions:
    """How foreign readers are asked.

    ``single``: go on where nobody can confirm a range (never where somebody contradicts). ``seed`` chooses the random
    sample of unchanged blocks; the receipt tells it.
    """

    single: bool = False
    seed: int | None = None

    def with_seed(self) -> OpinionOptions:
        """Return the same with a seed drawn, where none is given."""
        return self if self.seed is not None else OpinionOptions(self.single, secrets.randbits(32))


@dataclass(frozen=True, slots=True)
class Committed:
    """A finished commit: what was written, and what foreign readers said before and after.

    ``seed`` chose the sample of unchanged blocks.
    """

    written: Written
    before: ContainerVerdict
    after: ContainerVerdict
    seed: int


def commit_for(changes: Changes, target: Target, store: HostStore = OS_STORE) -> Commit:
    """Choose the steps for a target and the format of the image.

    Raises :class:`UsageError` ``target-contradicts`` for options that the image's format has no use for.
    """
    info = changes.base.layers[0].info
    indirect = info.format == "vhdx" or (info.format == "vhd" and info.type != "fixed")
    if target.journal and (target.kind != "in-place" or indirect):
        raise UsageError(
            "target-contradicts",
            "--journal is for fixed VHD and raw images that are changed in place",
            path=info.path,
            found=f"a {info.type} {info.format} image, {target.kind}",
            hint="Leave --journal out: this change is safe without it.",
        )
    return _commit_class(target, info.format, indirect=indirect)(changes, target, store)


def _commit_class(target: Target, form: str, *, indirect: bool) -> Callable[[Changes, Target, HostStore], Commit]:
    """Each kind is imported where it is chosen: the others would only cost time."""
    if target.kind == "child":
        from vhdtool.disk.commit_child import ChildCommit  # noqa: PLC0415

        return ChildCommit
    if target.kind == "output":
        from vhdtool.disk.commit_output import OutputCommit  # noqa: PLC0415

        return OutputCommit
    if form == "vhdx":
        from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit  # noqa: PLC0415

        return VhdxInPlaceCommit
    if indirect:
        from vhdtool.disk.commit_vhd import VhdInPlaceCommit  # noqa: PLC0415

        return VhdInPlaceCommit
    if target.journal:
        from vhdtool.disk.commit_journal import JournalCommit  # noqa: PLC0415

        return JournalCommit
    from vhdtool.disk.commit_copy import CopyInPlaceCommit  # noqa: PLC0415

    return CopyInPlaceCommit


def commit_changes(
    changes: Changes,
    target: Target,
    *,
    commit: Commit | None = None,
    store: HostStore = OS_STORE,
    opinions: OpinionOptions | None = None,
    progress: Progress = SILENT,
) -> Committed:
    """Bring ``changes`` to ``target``; ``commit`` are other steps than those of :func:`commit_for`.

    Raises what the steps raise; :class:`OpinionError` while the image is untouched; :class:`ChangedError`
    ``commit-not-confirmed`` where the image was changed in place and is not read as it should be.
    """
    from vhdtool.disk.container_opinion import confirm_container  # noqa: PLC0415  # slow readers
    from vhdtool.disk.expected_disk import ExpectedDisk  # noqa: PLC0415

    asked = (opinions or OpinionOptions()).with_seed()
    steps = commit or commit_for(changes, target, store)
    try:
        candidate = steps.prepare(progress)
        expected = ExpectedDisk(changes, asked.seed or 0)
        before = confirm_container(candidate, expected, single_opinion=asked.single, progress=progress)
        written = _finish(steps, target, changes.base.info.path, progress)
    except BaseException:
        steps.abandon()
        raise
    try:
        with open_disk(written.path, parent=_parent_of(candidate)) as disk:
            real = Candidate(disk.info.format, [(file.path, file) for file in disk.files])
            after = confirm_container(real, expected, single_opinion=asked.single, progress=progress)
    except VhdtoolError as error:
        if target.kind == "in-place":
            raise not_confirmed(error, written) from error
        store.remove(written.path)
        raise OpinionError(
            "new-file-not-confirmed",
            f"the new file is not read as it was written, and is removed again: {error.message}",
            path=written.path,
            offset=error.offset,
            hint="Nothing else was changed. Check the host's disk and memory, then try again.",
        ) from error
    return Committed(written, before, after, asked.seed or 0)


def _finish(steps: Commit, target: Target, path: str, progress: Progress) -> Written:
    """Finish; where that is interrupted in place, by whatever it is, tell that the image has to be brought to rest."""
    try:
        return steps.finish(progress)
    except VhdtoolError:
        raise
    except BaseException as error:  # a fault of ours too: nobody may be told then that the image is untouched
        if target.kind != "in-place":
            raise
        raise ChangedError(
            "commit-interrupted",
            f"the change was interrupted while it was written ({type(error).__name__}): the disk is the old or the new",
            path=path,
            hint="Bring the file to rest: vhdtool recover IMAGE. Then ask it which of the two it is.",
        ) from error


def not_confirmed(error: VhdtoolError, written: Written) -> ChangedError:
    """Make the error for an image that was changed and is not read as it should be."""
    return ChangedError(
        "commit-not-confirmed",
        f"the image was changed, and is not read as it should be: {error.message}",
        path=written.path,
        offset=error.offset,
        expected=error.expected,
        found=error.found,
        hint=UNDO_BY_COPY,
    )


def _parent_of(candidate: Candidate) -> str | None:
    """The parent, by the path that it was found at: a new child's own locators may not lead there from everywhere."""
    return candidate.files[1][0] if len(candidate.files) > 1 else None
