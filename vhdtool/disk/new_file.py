"""A new file on the host: never over one that is there, and gone again where writing it fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vhdtool.errors import OutputError, RefusedError


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Make the file; where writing it fails, remove it again.

    Raises :class:`RefusedError` ``file-exists``, :class:`OutputError` ``cannot-write``.
    """
    name = os.fspath(path)
    try:
        file = Path(path).open("xb")  # noqa: SIM115  # closed below; a failed opening must not remove the file
    except FileExistsError as error:
        raise RefusedError("file-exists", "the file is there already", path=name) from error
    except OSError as error:
        raise OutputError("cannot-write", f"can't make the file: {error.strerror}", path=name) from error
    try:
        with file:
            yield file
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise OutputError("cannot-write", f"can't write the file: {error.strerror}", path=name) from error
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def put(file: BinaryIO, offset: int, data: bytes) -> None:
    """Write ``data`` at ``offset``; what is skipped stays a hole of the file where the host has such."""
    if data:
        file.seek(offset)
        file.write(data)
