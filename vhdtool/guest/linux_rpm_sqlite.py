"""rpm's database in SQLite's form (rpm 4.16 and later): read from a copy in memory, without running what it defines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

import construct as c

from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.layout import offset_of

LARGEST_DATABASE = 256 << 20
MOST_STEPS = 2000
"""Calls of the watchdog, one after each :data:`STEP` instructions of SQLite's machine."""

STEP = 100_000
# SQLite, "Database File Format", 1.3; version 2 means a write-ahead log
SQLITE_HEADER = c.Struct("magic" / c.Bytes(16), c.Padding(2), "write_version" / c.Int8ul, "read_version" / c.Int8ul)
MAGIC = b"SQLite format 3\0"


class SqliteDatabase:
    """``rpmdb.sqlite``. What only stands in its write-ahead log is not seen; rpm empties that when it ends."""

    def __init__(self, tree: LinuxTree, path: str) -> None:
        self.path = path
        data = bytearray(tree.read(path, LARGEST_DATABASE) or b"")
        if not data.startswith(MAGIC) or len(data) < 512:
            raise DamagedError("rpm-database-damaged", "this is no SQLite database", path=path, offset=0)
        log = tree.target(f"{path}-wal")
        if log is not None and log.size:
            raise UnsupportedError(
                "rpm-database-in-use",
                "the newest changes of the package database are still in its log",
                path=f"{path}-wal",
                hint="Start the guest, run rpm -q rpm there, and shut it down.",
            )
        for name in ("write_version", "read_version"):
            data[offset_of(SQLITE_HEADER, name)] = 1  # a copy in memory can have no log beside it
        self._data = data

    def headers(self, base_names: Sequence[bytes]) -> Iterator[bytes]:
        """As :meth:`vhdtool.guest.linux_rpm.HeaderSource.headers`. Raises ``rpm-database-damaged``."""
        steps = 0

        def watchdog() -> int:
            nonlocal steps
            steps += 1
            return steps > MOST_STEPS

        try:
            with closing(sqlite3.connect(":memory:")) as connection:
                connection.text_factory = bytes  # what a damaged database calls text need not be any
                connection.deserialize(self._data)
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute("PRAGMA query_only = ON")
                connection.set_progress_handler(watchdog, STEP)
                if not _is_table(connection, "Packages"):
                    raise self._damaged("it has no table of packages")
                if _is_table(connection, "Basenames"):
                    marks = ",".join("?" * len(base_names))
                    query = (
                        "SELECT blob FROM Packages WHERE hnum IN"  # noqa: S608  # only question marks are put in
                        f" (SELECT hnum FROM Basenames WHERE key IN ({marks}))"
                    )
                    names = [name.decode("utf-8", "replace") for name in base_names]
                    rows = connection.execute(query, names)
                else:
                    rows = connection.execute("SELECT blob FROM Packages")
                for (blob,) in rows:
                    if isinstance(blob, bytes):
                        yield blob
        except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:
            raise self._damaged(str(error)[:200]) from error

    def _damaged(self, text: str) -> DamagedError:
        return DamagedError(
            "rpm-database-damaged", f"the package database can't be read: {text}", path=self.path,
            hint="Rebuild it in the guest: rpm --rebuilddb",
        )  # fmt: skip


def _is_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether this is a table, and not a view that could compute without end."""
    row = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return row is not None and row[0] == b"table"
