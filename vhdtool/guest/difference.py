"""What differs between two guests: what they are, their services, and the keys and values of their registries.

Two installations are held against each other as they are stored. Times of keys, their security and class names are
not compared. What can't be read counts as absent, and is among the troubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from vhdtool.bytesource import ByteSource
from vhdtool.errors import NotFoundError, VhdtoolError
from vhdtool.guest.boot_ready import driver_file
from vhdtool.guest.control_set import current_control_set
from vhdtool.guest.inspection import integration_version, list_services
from vhdtool.guest.model import Service
from vhdtool.guest.source import Trouble, Troubles, WindowsInstallation
from vhdtool.guest.windows import UNKNOWN_IDENTITY, read_identity
from vhdtool.knowledge.integration import integration_drivers
from vhdtool.package.pe import file_version
from vhdtool.registry.format import BASE_BLOCK_SIZE
from vhdtool.registry.hive import Hive, Key, Value
from vhdtool.registry.names import fold

Action = Literal["added", "removed", "changed"]
Fact = str | int | bool | None

HIVES = ("SYSTEM", "SOFTWARE")
PIECE = 1 << 20
COUNTED = 1_000_000
"""Keys and values below a key that only one of the two has are counted up to here."""


@dataclass(frozen=True, slots=True)
class FactDifference:
    """One fact that differs; ``None`` where a side does not have it."""

    name: str
    before: Fact
    after: Fact


@dataclass(frozen=True, slots=True)
class ServiceDifference:
    """A service or driver. ``facts``: start, override, effective, delayed, trigger; version of a driver's file."""

    name: str
    display_name: str | None
    action: Action
    facts: tuple[FactDifference, ...]


@dataclass(frozen=True, slots=True)
class RegistryDifference:
    """A key (``name`` is ``None``) or a value of a key. ``key`` is the path from the hive's root.

    ``before`` and ``after`` are a value's type and stored bytes; ``None`` where it is absent, or can't be read.
    ``below`` counts the keys and values that a key has or had with it.
    """

    hive: str
    key: str
    name: str | None
    action: Action
    before: tuple[int, bytes] | None
    after: tuple[int, bytes] | None
    below: int = 0


def compare_identity(one: WindowsInstallation, other: WindowsInstallation) -> tuple[FactDifference, ...]:
    """Compare product, Windows version, edition and integration services version."""
    return tuple(differing(_identity(one), _identity(other)))


def compare_services(
    one: WindowsInstallation, other: WindowsInstallation, troubles: Troubles | None = None
) -> tuple[ServiceDifference, ...]:
    """Compare all services and drivers of the control sets in use, by name.

    Raises what opening the SYSTEM hives raises, and :class:`NotFoundError` ``no-control-set``.
    """
    troubles = Troubles() if troubles is None else troubles
    ours, theirs = _services(one, troubles), _services(other, troubles)
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        (before, old), (after, new) = ours.get(name, _NO_SERVICE), theirs.get(name, _NO_SERVICE)
        facts = tuple(differing(old, new))
        shown = after or before
        if facts and shown is not None:
            found.append(ServiceDifference(shown.name, shown.display_name, _action(before, after), facts))
    return tuple(found)


def compare_registry(
    one: WindowsInstallation,
    other: WindowsInstallation,
    hives: Sequence[str] = HIVES,
    troubles: Troubles | None = None,
) -> Iterator[RegistryDifference]:
    """Compare hives key by key, in the order of their paths; what is stored alike is not looked at twice.

    A key that one of the two does not have is told once, with the number of what is below it. Raises what opening a
    hive raises, but for one that is not there.
    """
    troubles = Troubles() if troubles is None else troubles
    for name in hives:
        before, after = one.optional_hive(name), other.optional_hive(name)
        if before is None and after is None:
            continue
        if before is not None and after is not None:
            if not _same_bytes(before, after):
                yield from _Comparison(name, troubles).keys(before.root, after.root)
        else:
            yield _one_sided(name, "", None if before is None else before.root, None if after is None else after.root)
        for hive in (before, after):
            for problem in () if hive is None else hive.problems:
                error = VhdtoolError(problem.code, problem.message, path=problem.path, offset=problem.offset)
                troubles.found.append(Trouble(f"a part of the {name} hive", error))


def differing(before: dict[str, Fact], after: dict[str, Fact]) -> Iterator[FactDifference]:
    """Yield the facts that are not the same."""
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield FactDifference(name, before.get(name), after.get(name))


def _identity(installation: WindowsInstallation) -> dict[str, Fact]:
    software = installation.optional_hive("SOFTWARE")
    identity = UNKNOWN_IDENTITY if software is None else read_identity(software)
    return {
        "product": identity.product,
        "version": identity.version,
        "edition": identity.edition,
        "integration_services": integration_version(installation, Troubles()).version,
    }


_NO_SERVICE: tuple[Service | None, dict[str, Fact]] = (None, {})


def _services(
    installation: WindowsInstallation, troubles: Troubles
) -> dict[str, tuple[Service | None, dict[str, Fact]]]:
    _, _, every = list_services(installation, all_services=True, troubles=troubles)
    found: dict[str, tuple[Service | None, dict[str, Fact]]] = {}
    for row in every or ():
        found[fold(row.name)] = (
            row,
            {
                "start": row.start or row.start_value,
                "delayed": row.delayed_auto_start,
                "override": row.start_override,
                "effective": row.effective_start,
                "trigger": row.trigger_start,
            },
        )
    for name, version in _driver_versions(installation, troubles):
        if fold(name) in found:
            found[fold(name)][1]["version"] = version
    return found


def _driver_versions(installation: WindowsInstallation, troubles: Troubles) -> Iterator[tuple[str, str]]:
    control_set = current_control_set(installation.hive("SYSTEM"))
    services = None if control_set is None else control_set.key("Services")
    for component in integration_drivers():
        with troubles.guard(f"the file of the driver {component.name}"):
            key = None if services is None else services.subkey(component.name)
            path = None if key is None else driver_file(installation, component.name, key)[0]
            if path is None:
                continue
            try:
                file = installation.filesystem.open(path)
            except NotFoundError:
                continue
            version = file_version(file, path=path)
            if version is not None:
                yield component.name, ".".join(map(str, version.file))


def _action(before: object, after: object) -> Action:
    return "added" if before is None else "removed" if after is None else "changed"


def _same_bytes(one: Hive, other: Hive) -> bool:
    """Tell whether two hives hold the same cells, byte for byte; the base block's counters and times don't matter."""
    ours, theirs = _stored(one), _stored(other)
    if ours.size != theirs.size or one.base.root_cell != other.base.root_cell:
        return False
    return all(
        ours.read_at(offset, PIECE) == theirs.read_at(offset, PIECE)
        for offset in range(BASE_BLOCK_SIZE, ours.size, PIECE)
    )


def _stored(hive: Hive) -> ByteSource:
    """The hive's bytes. A clean one's file has them: read past the pages that the hive keeps, they take no memory."""
    return hive.file if hive.state == "clean" else hive.image


class _Comparison:
    def __init__(self, hive: str, troubles: Troubles) -> None:
        self._hive = hive
        self._troubles = troubles

    def keys(self, before: Key, after: Key) -> Iterator[RegistryDifference]:
        waiting: list[tuple[str, Key | None, Key | None]] = [("", before, after)]
        while waiting:
            path, ours, theirs = waiting.pop()
            if ours is None or theirs is None:
                yield _one_sided(self._hive, path, ours, theirs)
                continue
            yield from self._values(path, ours, theirs)
            left, right = self._subkeys(ours), self._subkeys(theirs)
            for name in sorted(left.keys() | right.keys(), reverse=True):
                one, other = left.get(name), right.get(name)
                shown = one or other
                below = "" if shown is None else shown.name
                waiting.append((f"{path}\\{below}" if path else below, one, other))

    def _values(self, path: str, before: Key, after: Key) -> Iterator[RegistryDifference]:
        ours, theirs = self._named_values(before), self._named_values(after)
        for name in sorted(ours.keys() | theirs.keys()):
            one, other = ours.get(name), theirs.get(name)
            shown = one or other
            if shown is None:
                continue
            old, new = self._content(one), self._content(other)
            if old != new or (one is None) != (other is None):
                yield RegistryDifference(self._hive, path, shown.name, _action(one, other), old, new)

    def _named_values(self, key: Key) -> dict[str, Value]:
        named: dict[str, Value] = {}
        with self._troubles.guard(f"the values of {self._hive}\\{key.path}"):
            for value in key.values():
                named.setdefault(fold(value.name), value)  # of two with one name the first counts
        return named

    def _subkeys(self, key: Key) -> dict[str, Key]:
        named: dict[str, Key] = {}
        with self._troubles.guard(f"the keys below {self._hive}\\{key.path}"):
            for subkey in key.subkeys():
                named.setdefault(fold(subkey.name), subkey)
        return named

    def _content(self, value: Value | None) -> tuple[int, bytes] | None:
        if value is not None:
            with self._troubles.guard(f"a value in {self._hive}"):
                return value.type, value.raw
        return None


def _one_sided(hive: str, path: str, before: Key | None, after: Key | None) -> RegistryDifference:
    key = before or after
    below = 0 if key is None else sum(1 for _ in islice(_contents(key), COUNTED))
    return RegistryDifference(hive, path, None, _action(before, after), None, None, below)


def _contents(key: Key) -> Iterable[object]:
    for below in key.walk():
        if below is not key:
            yield below
        try:
            yield from below.values()
        except VhdtoolError:  # what can't be read is not counted
            continue
