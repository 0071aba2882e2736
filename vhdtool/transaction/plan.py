"""A plan: each registry value and each file of a guest that would change, as it is and as it would be.

A plan is data. It is made by reading alone, can be shown, and is carried out by
:class:`vhdtool.transaction.transaction.Transaction`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from vhdtool.bytesource import ByteSource
from vhdtool.registry.operation import RegistryOperation

FileAction = Literal["put", "make-directory", "remove"]


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A registry value's type and its bytes as stored."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """One operation on a hive of one Windows. ``operation.key`` is a path from the hive's root.

    ``root`` is the Windows directory on ``volume``, ``hive`` the hive's name in ``System32/config``. ``before`` is the
    value that is there now. ``below`` counts the keys and values that go with a deleted key. ``changes`` is false
    where it is so already.
    """

    volume: int
    root: str
    hive: str
    operation: RegistryOperation
    before: StoredValue | None
    changes: bool
    below: int = 0


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file or directory that is made, replaced or removed. Sizes in bytes.

    ``source`` tells people where ``content`` comes from. ``security`` is a self-relative security descriptor;
    ``None`` keeps that of a file that is replaced, and takes the directory's for a new one.
    """

    volume: int
    action: FileAction
    path: str
    changes: bool
    size_before: int | None = None
    size: int | None = None
    source: str | None = None
    content: ByteSource | None = None
    sha256: str | None = None
    security: bytes | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in its order: files first, then the registry."""

    files: tuple[FileChange, ...] = ()
    registry: tuple[RegistryChange, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.volumes)

    @property
    def volumes(self) -> tuple[int, ...]:
        """The volumes that something is done on."""
        files = {change.volume for change in self.files if change.changes}
        return tuple(sorted(files | {change.volume for change in self.registry if change.changes}))

    def and_then(self, other: Plan) -> Plan:
        """Return this plan and another one after it."""
        return replace(self, files=self.files + other.files, registry=self.registry + other.registry)


def joined(plans: Iterable[Plan]) -> Plan:
    """Return several plans as one."""
    whole = Plan()
    for plan in plans:
        whole = whole.and_then(plan)
    return whole
