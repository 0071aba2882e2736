"""A transaction log as a file: its name, its bytes, its base block, and how much of logs one open may look at."""

from __future__ import annotations

from dataclasses import dataclass

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError
from vhdtool.registry.base_block import BaseBlock


@dataclass(frozen=True, slots=True)
class TransactionLog:
    """A log with a valid base block. ``name`` is the file's, ``base`` the copy of the hive's base block in it."""

    name: str
    source: ByteSource
    base: BaseBlock

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Read from the log. Raises :class:`DamagedError` ``hive-log-damaged`` where it is too short."""
        data = self.source.read_at(offset, length)
        if len(data) < length:
            raise self.damaged(f"the log ends within {what}", offset, expected=length, found=len(data))
        return data

    def damaged(
        self,
        message: str,
        offset: int,
        *,
        code: str = "hive-log-damaged",
        expected: object = None,
        found: object = None,
    ) -> DamagedError:
        """Make the error for something wrong in the log."""
        return DamagedError(
            code,
            message,
            path=self.name,
            offset=offset,
            expected=expected,
            found=found,
            hint="What the log holds from here on is lost; Windows stops here as well.",
        )


class LogBudget:
    """Bytes of logs that may still be looked at: hashing is slow, and what is applied is kept in memory."""

    def __init__(self, limit: int) -> None:
        self._left = self._limit = limit
        self.exceeded = False

    def take(self, log: TransactionLog, offset: int, length: int) -> None:
        """Take ``length`` bytes. Raises :class:`DamagedError` ``hive-log-too-large``."""
        if length > self._left:
            self.exceeded = True
            raise log.damaged(
                f"the logs hold more than the {self._limit} bytes that are looked at", offset, code="hive-log-too-large"
            )
        self._left -= length
