"""What an in-place commit tells of an image that it does not change, or could not finish changing."""

from __future__ import annotations

from typing import Final

from vhdtool.errors import ChangedError, OutputError, RefusedError, VhdtoolError

UNDO: Final = "A change in place is not undone by a command: restore the image from a copy made before."


def needs_recovery(what: str, path: str, offset: int | None = None) -> RefusedError:
    """Make the error for an image that ``recover`` can bring to rest."""
    return RefusedError(
        "image-needs-recovery",
        f"{what}: it is not changed in place like that",
        path=path,
        offset=offset,
        hint=f"Bring it to rest first: vhdtool recover {path}",
    )


def damaged(what: str, path: str, offset: int) -> RefusedError:
    """Make the error for an image whose structures can't be trusted."""
    return RefusedError(
        "image-damaged",
        f"{what}: it is not changed in place like that",
        path=path,
        offset=offset,
        hint=f"Convert it to a new image: vhdtool disk convert {path} NEW.vhdx; or use --child or --output.",
    )


def unfinished(error: VhdtoolError, path: str) -> ChangedError:
    """Make the error for a failure after the moment from which the disk may be the new one."""
    return ChangedError(
        "commit-unfinished",
        f"the change may have reached the image, and could not be finished: {error.message}",
        path=path,
        offset=error.offset,
        hint=f"The disk in it is whole, the old or the new one. Finish or undo it: vhdtool recover {path}",
    )


def room_stays(first: BaseException, second: VhdtoolError, path: str) -> OutputError:
    """Make the error for a failure before that moment whose traces could not be removed, because of ``second``."""
    return OutputError(
        "cannot-write",
        f"{first}; and the room that the file was given for it can't be taken away again: {second.message}",
        path=path,
        hint=f"The disk in it is the old one, as a whole. Make room, then: vhdtool recover {path}",
    )
