"""New files on the host: safe names for what comes from an image, nothing overwritten, nothing left half written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from vhdtool.errors import OutputError, RefusedError
from vhdtool.fs.base import GuestFile
from vhdtool.report.document import SavedFile
from vhdtool.report.encode import escaped

COPY_CHUNK = 1 << 20

_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/%]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_LONGEST = 200  # bytes: hosts take 255, and a suffix must fit


def output_error(error: OSError, path: str | os.PathLike[str]) -> OutputError:
    """Tell of a failed write as an error of ours."""
    return OutputError(
        "cannot-write",
        f"can't write: {error.strerror or error}",
        path=os.fspath(path),
        hint="Check the free space and that this user may write there.",
    )


def host_name(name: str) -> str:
    """Make a guest's file name one that any host takes: unusual characters become ``%XX``, as in a web address.

    Also the names ``.`` and ``..``, names that Windows keeps for devices, and trailing dots and spaces, which it drops.
    Names too long for the host end in ``~`` and eight digits of their SHA-256.
    """
    safe = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", escaped(name))
    if safe.endswith((".", " ")):
        safe = f"{safe[:-1]}%{ord(safe[-1]):02X}"
    if _RESERVED.match(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    encoded = safe.encode()
    if len(encoded) > _LONGEST:
        mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        safe = f"{encoded[:_LONGEST].decode('utf-8', 'ignore')}~{mark}"
    return safe


def read_chunks(file: GuestFile) -> Iterator[bytes]:
    """Read a guest file from its start to its end, a piece at a time."""
    offset = 0
    while offset < file.size:
        chunk = file.read_at(offset, min(COPY_CHUNK, file.size - offset))
        if not chunk:
            break
        yield chunk
        offset += len(chunk)


def save_file(file: GuestFile, saved_as: Path) -> SavedFile:
    """Copy a guest file to a new file of the host; what can't be finished is removed again.

    Raises :class:`RefusedError` ``exists``, :class:`OutputError`, and what reading the guest's file raises.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        out = saved_as.open("xb")
    except FileExistsError as error:
        raise exists(saved_as) from error
    except OSError as error:
        raise output_error(error, saved_as) from error
    try:
        with out:
            for chunk in read_chunks(file):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
    except OSError as error:
        saved_as.unlink(missing_ok=True)
        raise output_error(error, saved_as) from error
    except BaseException:  # also when interrupted: half a file must not look like a whole one
        saved_as.unlink(missing_ok=True)
        raise
    return SavedFile(file.path, os.fspath(saved_as), size, digest.hexdigest())


def make_directory(path: Path, *, new: bool = False) -> None:
    """Make a directory and those above it; with ``new`` it must not exist yet.

    Raises :class:`RefusedError` ``exists``, :class:`OutputError`.
    """
    try:
        path.mkdir(parents=True, exist_ok=not new)
    except FileExistsError as error:
        raise exists(path) from error
    except OSError as error:
        raise output_error(error, path) from error


def exists(path: Path) -> RefusedError:
    """Build the refusal to overwrite ``path``."""
    return RefusedError(
        "exists",
        "this name exists already, and nothing is overwritten",
        path=os.fspath(path),
        hint="Name another place, or move it away first.",
    )
