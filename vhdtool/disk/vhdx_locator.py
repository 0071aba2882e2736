"""The parent locator of a differencing VHDX: how the child names its parent (MS-VHDX 2.6.2.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed

LINKAGE_KEYS = ("parent_linkage", "parent_linkage2")
_PATH_KINDS = (ParentKind.RELATIVE, ParentKind.VOLUME, ParentKind.ABSOLUTE)  # the order in which 2.6.2.6.3 tries them
_HEADER = packed(fmt.PARENT_LOCATOR_HEADER)
_ENTRY = packed(fmt.PARENT_LOCATOR_ENTRY)


@dataclass(frozen=True, slots=True)
class Parentage:
    """What a child says of its parent: GUIDs that name it, ways to find it, and every key as stored."""

    linkage: tuple[str, ...]
    locators: tuple[ParentLocator, ...]
    entries: Mapping[str, str]


def parse_parent_locator(data: bytes, *, path: str | None = None, offset: int = 0) -> tuple[Parentage, list[Problem]]:
    """Return what the parent locator item ``data``, stored at ``offset``, says; and what was survived.

    Raises :class:`DamagedError` ``vhdx-parent-locator-damaged``, ``vhdx-parent-linkage-invalid``;
    :class:`UnsupportedError` ``vhdx-parent-locator-unknown``.
    """
    if len(data) < _HEADER.size:
        raise _damaged(f"it has {len(data)} bytes", path, offset)
    locator_type, _, count = _HEADER.unpack_from(data)
    if fmt.guid_of(locator_type) != fmt.PARENT_LOCATOR_TYPE:
        raise UnsupportedError(
            "vhdx-parent-locator-unknown",
            "the parent locator is of another type than a VHDX parent",
            path=path,
            offset=offset,
            expected=fmt.PARENT_LOCATOR_TYPE,
            found=fmt.guid_of(locator_type),
        )
    if _HEADER.size + count * _ENTRY.size > len(data):
        raise _damaged(f"{count} entries do not fit in its {len(data)} bytes", path, offset)
    entries: dict[str, str] = {}
    for index in range(count):
        key_at, value_at, key_length, value_length = _ENTRY.unpack_from(data, _HEADER.size + index * _ENTRY.size)
        key = _text(data, key_at, key_length, path, offset)
        if key in entries:
            raise _damaged(f"it has the key {key!r} twice", path, offset)
        entries[key] = _text(data, value_at, value_length, path, offset)
    linkage = tuple(_guid(entries[key], path, offset) for key in LINKAGE_KEYS if key in entries)
    locators = tuple(ParentLocator(kind, entries[kind.value]) for kind in _PATH_KINDS if entries.get(kind.value))
    problems = []
    if LINKAGE_KEYS[0] not in entries:
        problems.append(
            Problem("vhdx-parent-linkage-missing", "the parent locator has no parent_linkage", path, offset)
        )
    return Parentage(linkage, locators, entries), problems


def encode_parent_locator(entries: Mapping[str, str]) -> bytes:
    """Return the parent locator item with these keys and values, in their order."""
    place = _HEADER.size + len(entries) * _ENTRY.size
    table = b""
    texts = b""
    for key, value in entries.items():
        stored_key, stored_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        table += _ENTRY.pack(place, place + len(stored_key), len(stored_key), len(stored_value))
        texts += stored_key + stored_value
        place += len(stored_key) + len(stored_value)
    return _HEADER.pack(fmt.PARENT_LOCATOR_TYPE.bytes_le, 0, len(entries)) + table + texts


def _text(data: bytes, start: int, length: int, path: str | None, offset: int) -> str:
    if start < _HEADER.size or start + length > len(data) or length == 0 or length % 2:
        raise _damaged(f"a text of {length} bytes at {start:#x} does not fit in it", path, offset)
    try:
        text = data[start : start + length].decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        raise _damaged(f"the text at {start:#x} is no UTF-16", path, offset) from None
    if not text or "\0" in text:
        raise _damaged(f"the text at {start:#x} is empty or holds a NUL", path, offset)
    return text


def _guid(text: str, path: str | None, offset: int) -> str:
    if text.startswith("{") and text.endswith("}"):
        try:
            return str(UUID(text))
        except ValueError:
            pass
    raise DamagedError(
        "vhdx-parent-linkage-invalid",
        "the parent's identifier is no GUID in braces",
        path=path,
        offset=offset,
        found=repr(text[:64]),
        hint=fmt.RESTORE_HINT,
    )


def _damaged(what: str, path: str | None, offset: int) -> DamagedError:
    return DamagedError(
        "vhdx-parent-locator-damaged",
        f"the parent locator is damaged: {what}",
        path=path,
        offset=offset,
        hint=fmt.RESTORE_HINT,
    )
