"""Security descriptors as NTFS keeps them (self-relative), their text form (SDDL), and what a new file inherits.

MS-DTYP 2.4.2 (SID), 2.4.4 (ACE), 2.4.5 (ACL), 2.4.6 (SECURITY_DESCRIPTOR), 2.5.1 (SDDL), 2.5.3.4 (inheritance).
The text form knows what files need: owner, group, flags, and access entries that allow or deny.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import construct as c

from vhdtool.errors import DamagedError, UsageError

STAGED_DIRECTORY: Final = "O:BAG:SYD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
"""For a directory of ours in a guest: SYSTEM and administrators, and nobody by inheritance."""
STAGED_FILE: Final = "O:BAG:SYD:P(A;;FA;;;SY)(A;;FA;;;BA)"
"""For a file in it."""

SELF_RELATIVE, DACL_PRESENT, SACL_PRESENT = 0x8000, 0x0004, 0x0010
DACL_AUTO_INHERITED, SACL_AUTO_INHERITED, DACL_PROTECTED = 0x0400, 0x0800, 0x1000
DACL_INHERIT_REQUIRED = 0x0100
OBJECT_INHERIT, CONTAINER_INHERIT, NO_PROPAGATE, INHERIT_ONLY, INHERITED = 1, 2, 4, 8, 16
_INHERITANCE = OBJECT_INHERIT | CONTAINER_INHERIT | NO_PROPAGATE | INHERIT_ONLY
ALLOW, DENY = 0, 1
PLAIN_TYPES: Final = frozenset({0, 1, 2, 9, 10, 13, 0x11})
"""Entries that are a mask and a SID, some with data behind: allow, deny, audit, their callback forms, a label."""

LARGEST: Final = 0x10000
"""No descriptor is longer (an ACL's length is a 16-bit number; $SDS keeps descriptors below 64 KiB)."""
MOST_AUTHORITIES: Final = 15

_HEADER = c.Struct(
    "revision" / c.Int8ul,
    "resource_manager" / c.Int8ul,
    "control" / c.Int16ul,
    "owner" / c.Int32ul,
    "group" / c.Int32ul,
    "sacl" / c.Int32ul,
    "dacl" / c.Int32ul,
)
_ACL = c.Struct(
    "revision" / c.Int8ul, c.Padding(1), "size" / c.Int16ul, "count" / c.Int16ul, c.Padding(2),
)  # fmt: skip
_ACE = c.Struct("type" / c.Int8ul, "flags" / c.Int8ul, "size" / c.Int16ul, "mask" / c.Int32ul)
_SID = c.Struct("revision" / c.Int8ul, "count" / c.Int8ul, "authority" / c.Int16ub, "authority_low" / c.Int32ub)

SIDS: Final = {
    "SY": "S-1-5-18",
    "BA": "S-1-5-32-544",
    "BU": "S-1-5-32-545",
    "AU": "S-1-5-11",
    "WD": "S-1-1-0",
    "CO": "S-1-3-0",
    "CG": "S-1-3-1",
    "OW": "S-1-3-4",
    "LS": "S-1-5-19",
    "NS": "S-1-5-20",
    "IU": "S-1-5-4",
    "AC": "S-1-15-2-1",
}
RIGHTS: Final = {
    "FA": 0x001F01FF,
    "FR": 0x00120089,
    "FW": 0x00120116,
    "FX": 0x001200A0,
    "GA": 0x10000000,
    "GX": 0x20000000,
    "GW": 0x40000000,
    "GR": 0x80000000,
}
_GENERIC = {RIGHTS["GA"]: RIGHTS["FA"], RIGHTS["GX"]: RIGHTS["FX"], RIGHTS["GW"]: RIGHTS["FW"],
            RIGHTS["GR"]: RIGHTS["FR"]}  # fmt: skip
_TYPES = {"A": ALLOW, "D": DENY}
_FLAGS = {"OI": OBJECT_INHERIT, "CI": CONTAINER_INHERIT, "NP": NO_PROPAGATE, "IO": INHERIT_ONLY, "ID": INHERITED}
_DACL_FLAGS = {"P": DACL_PROTECTED, "AR": DACL_INHERIT_REQUIRED, "AI": DACL_AUTO_INHERITED}

_SDDL = re.compile(
    r"(?:O:(?P<owner>[A-Z]{2}|S-[0-9-]+))?(?:G:(?P<group>[A-Z]{2}|S-[0-9-]+))?"
    r"(?:D:(?P<flags>(?:P|AR|AI)*)(?P<entries>(?:\([^()]*\))*))?"
)
_ENTRY = re.compile(r"\(([AD]);((?:OI|CI|NP|IO|ID)*);((?:[FG][ARWX])+|0x[0-9a-fA-F]+);;;([A-Z]{2}|S-[0-9-]+)\)")


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One entry of a list. ``sid`` is ``None`` for kinds that are kept as they are; ``rest`` is what follows."""

    type: int
    flags: int
    mask: int
    sid: str | None
    rest: bytes = b""

    def to_bytes(self) -> bytes:
        """As it is stored."""
        body = (b"" if self.sid is None else sid_bytes(self.sid)) + self.rest
        return bytes(
            _ACE.build({"type": self.type, "flags": self.flags, "size": _ACE.sizeof() + len(body), "mask": self.mask})
        ) + body  # fmt: skip


@dataclass(frozen=True, slots=True)
class SecurityDescriptor:
    """Who owns a file and who may do what with it.

    SIDs as text (``S-1-5-18``). ``dacl`` and ``sacl`` are ``None`` where there is none; without a DACL everybody may
    do everything.
    """

    owner: str | None
    group: str | None
    control: int
    dacl: tuple[AccessEntry, ...] | None
    sacl: tuple[AccessEntry, ...] | None = None

    def to_bytes(self) -> bytes:
        """As NTFS stores it: the lists, then owner and group, as Windows puts them."""
        control = (self.control | SELF_RELATIVE) & ~(DACL_PRESENT | SACL_PRESENT)
        parts = {
            "sacl": None if self.sacl is None else _list_bytes(self.sacl),
            "dacl": None if self.dacl is None else _list_bytes(self.dacl),
            "owner": None if self.owner is None else sid_bytes(self.owner),
            "group": None if self.group is None else sid_bytes(self.group),
        }
        control |= (DACL_PRESENT if self.dacl is not None else 0) | (SACL_PRESENT if self.sacl is not None else 0)
        facts: dict[str, int] = {"revision": 1, "resource_manager": 0, "control": control}
        body = b""
        for name, part in parts.items():
            facts[name] = 0 if part is None else _HEADER.sizeof() + len(body)
            body += part or b""
        return bytes(_HEADER.build(facts)) + body

    def to_sddl(self) -> str:
        """The text form of owner, group and DACL."""
        text = "" if self.owner is None else f"O:{_sid_name(self.owner)}"
        text += "" if self.group is None else f"G:{_sid_name(self.group)}"
        if self.dacl is not None:
            text += "D:" + "".join(name for name, bit in _DACL_FLAGS.items() if self.control & bit)
            text += "".join(_entry_text(entry) for entry in self.dacl)
        return text


def parse_descriptor(data: bytes, path: str | None = None) -> SecurityDescriptor:
    """Take a stored descriptor apart. Raises :class:`DamagedError` ``security-descriptor-damaged``."""
    if len(data) < _HEADER.sizeof() or len(data) > LARGEST:
        raise _damaged(path, 0, f"{len(data)} bytes")
    facts = _HEADER.parse(data)
    if facts.revision != 1 or not facts.control & SELF_RELATIVE:
        raise _damaged(path, 0, f"revision {facts.revision}, control {facts.control:#06x}")
    return SecurityDescriptor(
        owner=_parse_sid(data, facts.owner, path)[0] if facts.owner else None,
        group=_parse_sid(data, facts.group, path)[0] if facts.group else None,
        control=facts.control,
        dacl=_parse_list(data, facts.dacl, path) if facts.control & DACL_PRESENT and facts.dacl else None,
        sacl=_parse_list(data, facts.sacl, path) if facts.control & SACL_PRESENT and facts.sacl else None,
    )


def from_sddl(text: str) -> SecurityDescriptor:
    """Read the text form. Raises :class:`UsageError` ``bad-sddl``."""
    found = _SDDL.fullmatch(text)
    if found is None:
        raise UsageError("bad-sddl", "this is no security descriptor that is understood here", found=text)
    entries = None
    control = SELF_RELATIVE
    if found["flags"] is not None:
        entries = tuple(_read_entry(one) for one in re.findall(r"\([^()]*\)", found["entries"]))
        control |= DACL_PRESENT
        for name in re.findall("P|AR|AI", found["flags"]):
            control |= _DACL_FLAGS[name]
    return SecurityDescriptor(_read_sid(found["owner"]), _read_sid(found["group"]), control, entries)


def inherited(
    folder: SecurityDescriptor, *, directory: bool, owner: str = SIDS["BA"], group: str = SIDS["SY"]
) -> SecurityDescriptor:
    """Return the descriptor that Windows gives a file or directory that an administrator makes in ``folder``.

    Entries are marked as inherited where ``folder`` itself takes part in automatic inheritance: so did Windows on a
    volume that it wrote (``tests/fs/test_security_descriptor.py``). Nothing to inherit: SYSTEM and administrators.
    """
    mark = INHERITED if folder.control & DACL_AUTO_INHERITED else 0
    dacl = _inherited_list(folder.dacl or (), mark, owner, group, directory=directory)
    control = DACL_AUTO_INHERITED if dacl and mark else 0
    if not dacl:
        dacl = tuple(AccessEntry(ALLOW, 0, RIGHTS["FA"], SIDS[name]) for name in ("SY", "BA"))
    mark = INHERITED if folder.control & SACL_AUTO_INHERITED else 0
    sacl = _inherited_list(folder.sacl or (), mark, owner, group, directory=directory)
    if sacl:
        control |= SACL_PRESENT | (SACL_AUTO_INHERITED if mark else 0)
    return SecurityDescriptor(owner, group, control | SELF_RELATIVE | DACL_PRESENT, dacl, sacl or None)


def sid_bytes(sid: str) -> bytes:
    """A SID as stored. Raises :class:`UsageError` ``bad-sddl``."""
    try:
        mark, revision, authority, *others = sid.split("-")
        number, numbers = int(authority), [int(other) for other in others]
        if mark != "S" or int(revision) != 1 or len(numbers) > MOST_AUTHORITIES or number >> 48:
            raise ValueError
        head = _SID.build(
            {"revision": 1, "count": len(numbers), "authority": number >> 32, "authority_low": number & 0xFFFFFFFF}
        )
        return bytes(head) + b"".join(other.to_bytes(4, "little") for other in numbers)
    except (ValueError, OverflowError) as error:
        raise UsageError("bad-sddl", "this is no SID", found=sid) from error


def _inherited_list(
    entries: Sequence[AccessEntry], mark: int, owner: str, group: str, *, directory: bool
) -> tuple[AccessEntry, ...]:
    made: list[AccessEntry] = []
    for entry in entries:
        passes_on = entry.flags & (OBJECT_INHERIT | CONTAINER_INHERIT)
        kept = entry.flags & ~(_INHERITANCE | INHERITED) | mark
        if not directory:
            if passes_on & OBJECT_INHERIT:
                made.append(_effective(replace(entry, flags=kept), owner, group))
        elif passes_on & CONTAINER_INHERIT:
            effective = _effective(replace(entry, flags=kept), owner, group)
            if entry.flags & NO_PROPAGATE:
                made.append(effective)
            elif (effective.mask, effective.sid) == (entry.mask, entry.sid):
                made.append(replace(entry, flags=kept | passes_on))
            else:  # what is for the directory itself, and what it passes on, are different now
                made += [effective, replace(entry, flags=kept | passes_on | INHERIT_ONLY)]
        elif passes_on and not entry.flags & NO_PROPAGATE:
            made.append(replace(entry, flags=kept | OBJECT_INHERIT | INHERIT_ONLY))
    return tuple(made)


def _effective(entry: AccessEntry, owner: str, group: str) -> AccessEntry:
    """An entry with generic rights and CREATOR OWNER or GROUP replaced by what they stand for."""
    mask = entry.mask
    for generic, rights in _GENERIC.items():
        if mask & generic:
            mask = mask & ~generic | rights
    sid = {SIDS["CO"]: owner, SIDS["CG"]: group}.get(entry.sid or "", entry.sid)
    return replace(entry, mask=mask, sid=sid)


def _list_bytes(entries: Sequence[AccessEntry]) -> bytes:
    body = b"".join(entry.to_bytes() for entry in entries)
    revision = 2 if all(entry.type in PLAIN_TYPES for entry in entries) else 4  # ACL_REVISION, ACL_REVISION_DS
    return bytes(_ACL.build({"revision": revision, "size": _ACL.sizeof() + len(body), "count": len(entries)})) + body


def _parse_list(data: bytes, offset: int, path: str | None) -> tuple[AccessEntry, ...]:
    if offset + _ACL.sizeof() > len(data):
        raise _damaged(path, offset, "a list outside it")
    facts = _ACL.parse(data[offset:])
    end = offset + facts.size
    if end > len(data):
        raise _damaged(path, offset, f"a list of {facts.size} bytes")
    entries = []
    place = offset + _ACL.sizeof()
    for _ in range(facts.count):
        if place + _ACE.sizeof() > end:
            raise _damaged(path, place, "an entry outside its list")
        entry = _ACE.parse(data[place:])
        if entry.size < _ACE.sizeof() or place + entry.size > end:
            raise _damaged(path, place, f"an entry of {entry.size} bytes")
        entries.append(_parse_entry(data[: place + entry.size], place, entry, path))
        place += entry.size
    return tuple(entries)


def _parse_entry(data: bytes, place: int, facts: Any, path: str | None) -> AccessEntry:
    body = place + _ACE.sizeof()
    if facts.type not in PLAIN_TYPES:
        return AccessEntry(facts.type, facts.flags, facts.mask, None, data[body:])
    sid, length = _parse_sid(data, body, path)
    return AccessEntry(facts.type, facts.flags, facts.mask, sid, data[body + length :])


def _parse_sid(data: bytes, offset: int, path: str | None) -> tuple[str, int]:
    """A SID as text, and its length in bytes."""
    if offset + _SID.sizeof() > len(data):
        raise _damaged(path, offset, "a SID outside it")
    facts = _SID.parse(data[offset:])
    length = _SID.sizeof() + 4 * facts.count
    if facts.revision != 1 or facts.count > MOST_AUTHORITIES or offset + length > len(data):
        raise _damaged(path, offset, f"a SID of revision {facts.revision} with {facts.count} parts")
    parts = data[offset + _SID.sizeof() : offset + length]
    numbers = [facts.authority << 32 | facts.authority_low]
    numbers += [int.from_bytes(parts[place : place + 4], "little") for place in range(0, len(parts), 4)]
    return "S-1-" + "-".join(str(number) for number in numbers), length


def _damaged(path: str | None, offset: int, found: str) -> DamagedError:
    return DamagedError(
        "security-descriptor-damaged",
        "a security descriptor breaks its format",
        path=path,
        offset=offset,
        found=found,
        hint="Run chkdsk /f on the volume in the guest.",
    )


def _read_sid(text: str | None) -> str | None:
    if text is None:
        return None
    sid = SIDS.get(text, text)
    sid_bytes(sid)
    return sid


def _sid_name(sid: str) -> str:
    return next((name for name, known in SIDS.items() if known == sid), sid)


def _read_entry(text: str) -> AccessEntry:
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise UsageError("bad-sddl", "this is no access entry that is understood here", found=text)
    kind, flags, rights, sid = found.groups()
    mask = int(rights, 16) if rights.startswith("0x") else 0
    for name in () if mask or rights.startswith("0x") else re.findall("..", rights):
        mask |= RIGHTS[name]
    bits = sum(_FLAGS[name] for name in set(re.findall("..", flags)))
    return AccessEntry(_TYPES[kind], bits, mask, _read_sid(sid))


def _entry_text(entry: AccessEntry) -> str:
    kind = next((name for name, number in _TYPES.items() if number == entry.type), f"{entry.type:#x}")
    flags = "".join(name for name, bit in _FLAGS.items() if entry.flags & bit)
    rights = next((name for name, bits in RIGHTS.items() if bits == entry.mask), f"{entry.mask:#x}")
    return f"({kind};{flags};{rights};;;{'?' if entry.sid is None else _sid_name(entry.sid)})"
