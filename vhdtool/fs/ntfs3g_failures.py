"""What a worker says went wrong, as our errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vhdtool.errors import MissingSupportError, NotFoundError, OutputError, RefusedError, VhdtoolError
from vhdtool.fs.worker_wire import Message, WireError, unpack_facts, unpack_fields

TESTED: Final = ("libntfs-3g.so.89",)
"""SONAMEs that need no self-test: what was tested at length (2022.10.3; Debian 12 and 13, Ubuntu 22.04 to 26.04)."""
PACKAGES: Final = (
    "Install it: Debian 13 and Ubuntu 24.04 or later libntfs-3g89t64, Debian 12 and Ubuntu 22.04 libntfs-3g89, "
    "Fedora and EPEL ntfs-3g-libs, Arch ntfs-3g, Alpine ntfs-3g-libs, macOS ntfs-3g-mac (brew tap gromgit/fuse)."
)
_UNTOUCHED = "The image is untouched. Run it again; if it fails again, check the volume in the guest (chkdsk /f)."

# What the worker finds before it changes anything. Callers check it by the volume's bytes first, with more to say.
_STATES: Final[dict[str, Callable[[str], VhdtoolError]]] = {
    "no-such-folder": lambda path: NotFoundError("no-such-folder", "there is no such directory", path=path),
    "no-such-file": lambda path: NotFoundError("no-such-file", "there is no such file", path=path),
    "not-a-directory": lambda path: NotFoundError("not-a-directory", "a file stands in the path", path=path),
    "not-a-file": lambda path: RefusedError("not-a-file", "this is a directory", path=path, hint="Name a file."),
    "name-taken": lambda path: RefusedError(
        "name-taken", "something has this name already", path=path, hint="Choose another one, or remove what has it."
    ),
    "directory-not-empty": lambda path: RefusedError(
        "directory-not-empty", "the directory is not empty", path=path, hint="Remove what is in it first."
    ),
    "file-system-file": lambda path: RefusedError(
        "file-system-file",
        "this is one of the file system's own files",
        path=path,
        hint="Only Windows itself changes these.",
    ),
    "reparse-on-path": lambda path: RefusedError(
        "reparse-on-path", "the path leads through a link", path=path, hint="Name the place that it leads to."
    ),
    "file-reparse": lambda path: RefusedError(
        "file-reparse", "the file is a reparse point", path=path, hint="Change it in the running guest."
    ),
    "file-encrypted": lambda path: RefusedError(
        "file-encrypted", "the file is encrypted (EFS)", path=path, hint="In the guest, as its owner: cipher /d FILE."
    ),
    "file-compressed": lambda path: RefusedError(
        "file-compressed", "the file is compressed (LZNT1)", path=path, hint="In the guest: compact /u FILE."
    ),
    "file-sparse": lambda path: RefusedError(
        "file-sparse", "the file is sparse", path=path, hint="In the guest, copy it over itself."
    ),
    "volume-full": lambda path: OutputError(
        "volume-full",
        "the volume has not enough free space",
        path=path,
        hint="The image is untouched. Free some space in the guest.",
    ),
}


def failed(reason: str, what: str, found: str | None = None) -> OutputError:
    """The error for a worker that crashed, hangs or can't go on."""
    return OutputError(
        "ntfs-writer-failed", f"the NTFS writer failed: {reason}", path=what, found=found, hint=_UNTOUCHED
    )


def unknown_library(soname: str, fault: str) -> MissingSupportError:
    """The error for a version of the library that was not tested and does not pass the self-test."""
    return MissingSupportError(
        "ntfs-3g-unknown",
        f"this version of libntfs-3g can't be trusted: {fault}",
        path=soname,
        expected=" or ".join(TESTED),
        hint=PACKAGES,
    )


def no_library_for_windows() -> MissingSupportError:
    """The error on a Windows host."""
    return MissingSupportError(
        "ntfs-3g-missing",
        "files of a guest can't be made, replaced or removed on a Windows host: libntfs-3g does not exist for it",
        hint="Run this command on Linux (WSL too) or macOS. Registry changes and service start types work here.",
    )


def told_by_worker(message: Message, what: str, soname: str) -> VhdtoolError:
    """The error that a ``FAILED`` message tells. Raises :class:`WireError`."""
    fields = unpack_fields(message.payload)
    if len(fields) != 3:
        raise WireError("it tells a failure in a way that is not known")
    code, text = (field.decode("utf-8", "replace") for field in fields[:2])
    facts = unpack_facts(fields[2])
    says = " ".join(part for part in (facts.get("errno", ""), facts.get("library-says", "")) if part) or None
    if code in _STATES:
        error = _STATES[code](what)
        error.found = says if code == "volume-full" else None
        return error
    if code == "ntfs-3g-missing":
        return MissingSupportError(
            "ntfs-3g-missing",
            "the library that writes NTFS (libntfs-3g) is missing",
            found=text or None,
            hint=PACKAGES,
        )
    if code == "ntfs-3g-unknown":
        return unknown_library(soname, text)
    if code == "ntfs-3g-refuses":
        return RefusedError(
            "ntfs-3g-refuses",
            text,
            found=says,
            hint="Start the guest once, let it check the volume (chkdsk /f), and shut it down fully.",
        )
    return failed(text, what, says)
