"""A new file on the host: never over one that is there, and gone again where writing it fails.

A :class:`NewFile` gets its name when it is whole and on stable storage: whenever the power goes, the name leads to
nothing or to the whole file. Until then it has a name that nobody looks for; after a crash that one may be left.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from vhdtool.disk.commit import temporary_name
from vhdtool.disk.host_store import OS_STORE, HostFile, HostStore
from vhdtool.errors import OutputError, RefusedError


@contextmanager
def new_file(path: str | os.PathLike[str], store: HostStore = OS_STORE) -> Iterator[HostFile]:
    """Make a file at once under its name; where writing it fails, remove it again. It is not flushed.

    Raises :class:`RefusedError` ``file-exists``, :class:`OutputError` ``cannot-write``.
    """
    name = os.fspath(path)
    file = store.create(name)
    try:
        yield file
    except BaseException:
        file.close()
        store.remove(name)
        raise
    file.close()


class NewFile:
    """A file that is made under another name beside its own; as a context it is removed unless it was published.

    ``purpose`` is told by the other name. Raises :class:`OutputError` ``cannot-write``.
    """

    def __init__(self, path: str, purpose: str, store: HostStore = OS_STORE) -> None:
        self.path = path
        self._store = store
        self._temporary: str | None = temporary_name(path, f"{purpose}-{secrets.token_hex(4)}")
        self.file = store.create(self._temporary)

    def __enter__(self) -> Self:
        """Give the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file, unless it was published."""
        self.abandon()

    def publish(self) -> None:
        """Give the whole file its name; on return both are on stable storage.

        Raises :class:`RefusedError` ``output-exists``, :class:`OutputError` ``cannot-write``; there is no file then.
        """
        if self._temporary is None:
            raise ValueError("the file was published or abandoned before")
        self.file.flush()
        self.file.close()
        try:
            self._store.give_name(self._temporary, self.path)
        except RefusedError as error:
            raise output_exists(self.path) from error
        self._temporary = None
        try:
            self._store.flush_folder(self.path)
        except OutputError:
            self._store.remove(self.path)
            raise

    def abandon(self) -> None:
        """Remove the file where it was not published; a second time, do nothing."""
        self.file.close()
        if self._temporary is not None:
            temporary, self._temporary = self._temporary, None
            with suppress(OutputError):  # what led here is the error to tell
                self._store.remove(temporary)


def refuse_existing(path: str, inputs: Sequence[str] = ()) -> None:
    """Raise :class:`RefusedError` ``output-is-input``, ``output-exists`` where a new file would lie over another."""
    target = Path(path)
    for name in inputs:
        try:
            same = target.samefile(name)
        except OSError:
            continue
        if same:
            raise RefusedError(
                "output-is-input",
                "the output is a file of the disk that is to be read",
                path=path,
                hint="Name another output.",
            )
    if os.path.lexists(target):
        raise output_exists(path)


def output_exists(path: str) -> RefusedError:
    """Make the error for a new file whose name is taken."""
    return RefusedError(
        "output-exists",
        "the output is there already",
        path=path,
        hint="Remove it first, or name another output.",
    )
