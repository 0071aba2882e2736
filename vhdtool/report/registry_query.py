"""``reg query``: a key of a guest's registry, or of a hive file, with its values and subkeys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vhdtool.disk.device import FileDevice
from vhdtool.disk.open_layer import refuse_no_file
from vhdtool.errors import DamagedError, NotFoundError, Problem
from vhdtool.guest.key_path import KeyPath, parse_hive_file_path, parse_key_path
from vhdtool.guest.reg_value import shown_data
from vhdtool.guest.source import LOG_SUFFIXES
from vhdtool.registry.hive import Hive, Key, Value
from vhdtool.registry.names import fold
from vhdtool.report.document import RegistryHive, RegistryKey, RegistryValue

if TYPE_CHECKING:
    from vhdtool.guest.source import WindowsInstallation

HIVE_SIGNATURE = b"regf"

_VOLATILE_HINT = (
    "Windows keeps this key in memory only and makes it anew at each start, so a stopped VM seldom has it in its hive. "
    "The version can be worked out from other sources: vhdtool version IMAGE"
)


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """The hive that was asked and the keys that answer; ``keys`` is read as it is consumed.

    ``problems`` gives what was found wrong in the hive up to now, and was left out of the answer.
    """

    hive: RegistryHive
    keys: Iterator[RegistryKey]
    problems: Callable[[], tuple[Problem, ...]]


def query_installation(
    installation: WindowsInstallation, key: str, *, value: str | None = None, recursive: bool = False
) -> RegistryAnswer:
    """Ask the registry of an installed Windows.

    ``value`` limits the answer to one value name (empty: the default value). Raises :class:`NotFoundError`
    ``no-such-key`` or ``no-such-value``.
    """
    path = parse_key_path(key)
    return _answer(installation.hive(path.hive or ""), path, value, recursive=recursive)


def looks_like_hive(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file of the host is a registry hive, by its signature."""
    refuse_no_file(os.fspath(path))
    file = FileDevice(path)
    try:
        return file.read_at(0, len(HIVE_SIGNATURE)) == HIVE_SIGNATURE
    finally:
        file.close()


@contextmanager
def query_hive_file(
    file: str | os.PathLike[str], key: str, *, value: str | None = None, recursive: bool = False
) -> Iterator[RegistryAnswer]:
    """Ask a hive file of the host, recovered in memory from the logs beside it where it is dirty."""
    path = Path(file)
    sources = {name: FileDevice(name) for name in [path, *_logs_beside(path)]}
    try:
        hive = Hive.open(
            sources[path],
            [(log.name, source) for log, source in sources.items() if log != path],
            path=os.fspath(path),
        )
        yield _answer(hive, parse_hive_file_path(key), value, recursive=recursive)
    finally:
        for source in sources.values():
            source.close()


def _logs_beside(path: Path) -> list[Path]:
    wanted = {(path.name + suffix).lower() for suffix in LOG_SUFFIXES}
    try:
        return sorted(entry for entry in path.parent.iterdir() if entry.name.lower() in wanted)
    except OSError:  # a folder may be passable and not listable: then only the plain names can be tried
        return [log for suffix in LOG_SUFFIXES if (log := path.with_name(path.name + suffix)).is_file()]


def _answer(hive: Hive, path: KeyPath, value: str | None, *, recursive: bool) -> RegistryAnswer:
    inner = path.in_control_set(_current_control_set(hive, path)) if path.needs_control_set else path.inner
    key = hive.key(inner) if inner else hive.root
    if key is None:
        raise NotFoundError(
            "no-such-key",
            "the key does not exist",
            path=hive.path,
            found=path.shown,
            hint=_VOLATILE_HINT if path.is_volatile else None,
        )
    if value is not None and not recursive and key.value(value) is None:
        raise NotFoundError(
            "no-such-value",
            f"the key has no value {value!r}" if value else "the key has no default value",
            path=hive.path,
            found=path.shown,
            hint=_VOLATILE_HINT if path.is_volatile else None,
        )
    facts = RegistryHive(hive.path, hive.state, tuple(hive.logs_applied))
    keys = _keys(hive, key, path, inner, value, recursive=recursive)
    return RegistryAnswer(facts, keys, lambda: hive.problems)


def _current_control_set(hive: Hive, path: KeyPath) -> int:
    select = hive.key("Select")
    current = select.value("Current") if select is not None else None
    if current is None or not isinstance(current.data, int):
        raise NotFoundError(
            "no-such-key",
            "CurrentControlSet can't be followed: the hive has no Select\\Current",
            path=hive.path,
            found=path.shown,
            hint="Name the control set itself: HKLM\\SYSTEM\\ControlSet001",
        )
    return current.data


def _keys(
    hive: Hive, key: Key, path: KeyPath, inner: str, value: str | None, *, recursive: bool
) -> Iterator[RegistryKey]:
    seen: set[int] = set()
    waiting = [(key, path, inner)]
    while waiting:
        key, path, inner = waiting.pop()
        if key.offset in seen:
            raise DamagedError(
                "key-loop",
                "a key is listed below itself or twice",
                path=hive.path,
                offset=key.offset,
                found=path.shown,
                hint="The hive is damaged; query the keys above it without --recursive.",
            )
        seen.add(key.offset)
        below = list(key.subkeys())
        values = [fact for fact in key.values() if value is None or fold(fact.name) == fold(value)]
        if values or value is None:
            yield RegistryKey(
                path.shown,
                inner,
                key.last_written.isoformat() if key.last_written else None,
                key.class_name,
                tuple(_value(fact) for fact in values),
                tuple(subkey.name for subkey in below) if value is None else (),
            )
        if recursive:
            waiting += [
                (subkey, path.below(subkey.name), f"{inner}\\{subkey.name}" if inner else subkey.name)
                for subkey in reversed(below)
            ]


def _value(value: Value) -> RegistryValue:
    return RegistryValue(value.name, value.type_name, shown_data(value.type, value.raw), value.size, value.offset)
