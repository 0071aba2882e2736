"""One MFT record under our own rules: header, fixups, attributes with their order, ids, lengths and run lists.

Foreign checkers were found to pass a record whose counter of attribute ids is wrong. What whole volumes show that
Windows, mkntfs and libntfs-3g made is the measure: nothing of what they write may be reported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vhdtool.errors import Problem
from vhdtool.fs.ntfs_index import SEGMENT_MASK
from vhdtool.fs.ntfs_layout import (
    ATTRIBUTE_HEADER,
    COMPRESSED_SIZE,
    END_MARK,
    IN_USE,
    IS_DIRECTORY,
    NON_RESIDENT_FORM,
    RECORD_HEADER,
    RESIDENT_FORM,
    code_units,
    decode_runs,
    undo_fixups,
    utf16,
)
from vhdtool.fs.ntfs_records import COMPRESSED, ENCRYPTED, FILE_NAME, INDEX_ALLOCATION, SPARSE
from vhdtool.fs.runs import Run
from vhdtool.layout import packed

Units = tuple[int, ...]
Fold = Callable[[Units], Units]

_RECORD, _ATTRIBUTE = packed(RECORD_HEADER), packed(ATTRIBUTE_HEADER)
_RESIDENT, _NON_RESIDENT, _COMPRESSED = packed(RESIDENT_FORM), packed(NON_RESIDENT_FORM), packed(COMPRESSED_SIZE)
_FLAGS = 0x0001 | SPARSE | ENCRYPTED  # of an attribute: LZNT1 is the only compression there is
LAST_TYPE = 0x100  # $LOGGED_UTILITY_STREAM: above are types that $AttrDef leaves to others, and nobody uses
_END_SIZE = 8  # bytes of the end mark, with what fills it up
_SMALLEST = _ATTRIBUTE.size + _RESIDENT.size


@dataclass(frozen=True, slots=True)
class CheckedAttribute:
    """One attribute as stored. Sizes in bytes; ``value`` is set for resident ones, ``lowest`` and runs for others.

    ``name`` is UTF-16; ``stored`` the allocated size of a compressed or sparse attribute.
    """

    type: int
    name: bytes
    id: int
    flags: int
    value: bytes | None
    indexed: bool = False
    lowest: int = 0
    highest: int = -1
    runs: tuple[Run, ...] = ()
    allocated: int = 0
    size: int = 0
    initialized: int = 0
    stored: int | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"attribute {self.type:#x}" + (f" '{utf16(self.name)}'" if self.name else "")


@dataclass(frozen=True, slots=True)
class CheckedRecord:
    """One record as stored, with what is wrong with it. ``base`` is 0 in a base record, else the base's reference."""

    segment: int
    sequence: int
    links: int
    flags: int
    base: int
    attributes: tuple[CheckedAttribute, ...]
    problems: tuple[Problem, ...]

    @property
    def in_use(self) -> bool:
        """Whether the record says that it holds something."""
        return bool(self.flags & IN_USE)

    @property
    def is_directory(self) -> bool:
        """Whether the record says that it has an index of names."""
        return bool(self.flags & IS_DIRECTORY)

    @property
    def reference(self) -> int:
        """What leads here: segment and sequence number."""
        return self.segment | self.sequence << 48


def check_record(data: bytes, segment: int, clusters: int, cluster_size: int, fold: Fold) -> CheckedRecord:
    """Decode an MFT record strictly. A record that is not in use is not judged beyond its fixups and header.

    ``clusters`` and ``cluster_size`` are the volume's; ``fold`` upper-cases a name's units by its $UpCase.
    """
    what = f"MFT record {segment}"
    if not any(data[: _RECORD.size]):
        return CheckedRecord(segment, 0, 0, 0, 0, (), ())  # Windows forms a record only when it is first used
    try:
        whole = undo_fixups(data)
        fields = _RECORD.unpack_from(whole)
        signature, fixups, fixup_count, _, sequence, links, first, flags, used, allocated, base, next_id, number = (
            fields
        )
        if signature != b"FILE":
            raise ValueError(f"it begins with {signature!r}")
        if not flags & IN_USE:
            return CheckedRecord(segment, sequence, links, flags, base, (), ())
        if fixups < _RECORD.size or first % 8 or first < fixups + 2 * fixup_count:
            raise ValueError(f"its attributes are said to begin at byte {first}, its fixups at {fixups}")
        if number != segment & 0xFFFFFFFF:
            raise ValueError(f"it says that it is record {number}")
        if allocated != len(whole) or used % 8 or not first + _END_SIZE <= used <= allocated:
            raise ValueError(f"it says that {used} of {allocated} bytes are used")
        attributes = _attributes(whole[:used], first, clusters, cluster_size)
    except ValueError as error:
        problem = Problem("ntfs-record-damaged", f"{what} is damaged: {error}")
        return CheckedRecord(segment, 0, 0, _flags_of(data), 0, (), (problem,))
    problems = _judge(what, attributes, next_id, fold)
    if sequence == 0:
        problems.append(Problem("ntfs-record-damaged", f"{what} is in use, and its sequence number is 0"))
    return CheckedRecord(segment, sequence, links, flags, base, attributes, tuple(problems))


def _flags_of(data: bytes) -> int:
    return int(_RECORD.unpack_from(data)[7]) if len(data) >= _RECORD.size and data[:4] == b"FILE" else 0


def _attributes(data: bytes, at: int, clusters: int, cluster_size: int) -> tuple[CheckedAttribute, ...]:
    found: list[CheckedAttribute] = []
    while True:
        if int.from_bytes(data[at : at + 4], "little") == END_MARK:
            if at + _END_SIZE != len(data):
                raise ValueError(f"its end mark is at byte {at} of {len(data)} used")
            return tuple(found)
        if at + _SMALLEST > len(data):
            raise ValueError("its attributes have no end")
        length = _ATTRIBUTE.unpack_from(data, at)[1]
        if length % 8 or not _SMALLEST <= length <= len(data) - at - _END_SIZE:
            raise ValueError(f"the attribute at byte {at} has an impossible length of {length}")
        found.append(_attribute(data[at : at + length], clusters, cluster_size))
        at += length


def _attribute(data: bytes, clusters: int, cluster_size: int) -> CheckedAttribute:
    type_, _, non_resident, name_length, name_offset, flags, id_ = _ATTRIBUTE.unpack_from(data)
    name = data[name_offset : name_offset + 2 * name_length]
    label = f"attribute {type_:#x}"
    header = _ATTRIBUTE.size + (_NON_RESIDENT.size if non_resident else _RESIDENT.size)
    if type_ & 15 or not 0 < type_ <= LAST_TYPE or non_resident > 1 or len(data) < header:
        raise ValueError(f"{label} is impossible")
    if name_length and (len(name) != 2 * name_length or name_offset < header):
        raise ValueError(f"the name of {label} leaves it")
    end_of_name = name_offset + 2 * name_length if name_length else header
    if non_resident:
        return _non_resident(data, CheckedAttribute(type_, name, id_, flags, None), end_of_name, clusters, cluster_size)
    length, offset, indexed = _RESIDENT.unpack_from(data, _ATTRIBUTE.size)
    if offset % 8 or offset < end_of_name or offset + length > len(data):
        raise ValueError(f"the value of {label} leaves it")
    if len(data) - offset - length >= 8:
        raise ValueError(f"{label} is longer than its value needs")
    value = data[offset : offset + length]
    return CheckedAttribute(
        type_, name, id_, flags, value, bool(indexed), allocated=-(-length // 8) * 8, size=length, initialized=length
    )


def _non_resident(
    data: bytes, told: CheckedAttribute, end_of_name: int, clusters: int, cluster_size: int
) -> CheckedAttribute:
    lowest, highest, runs_at, unit, allocated, size, initialized = _NON_RESIDENT.unpack_from(data, _ATTRIBUTE.size)
    stored: int | None = None
    if told.flags & COMPRESSED and not unit and lowest == 0:
        raise ValueError(f"{told.label} is compressed in units of no clusters")
    header = _ATTRIBUTE.size + _NON_RESIDENT.size
    if lowest == 0 and (unit or told.flags & (COMPRESSED | SPARSE)) and runs_at >= header + _COMPRESSED.size:
        stored = int(_COMPRESSED.unpack_from(data, header)[0])
        header += _COMPRESSED.size
    if runs_at < max(header, end_of_name):
        raise ValueError(f"the run list of {told.label} begins at byte {runs_at}")
    runs = decode_runs(data[runs_at:], clusters)
    count = sum(length for _, length in runs)
    if lowest < 0 or highest + 1 - lowest != count:
        raise ValueError(f"{told.label} says clusters {lowest} to {highest}, its run list has {count}")
    if lowest:
        allocated = size = initialized = 0  # told by the first piece alone
    elif allocated % cluster_size or not 0 <= initialized <= size <= allocated:
        raise ValueError(f"{told.label} says sizes of {initialized}, {size} and {allocated} bytes")
    return CheckedAttribute(
        told.type, told.name, told.id, told.flags, None, False,
        lowest, highest, runs, allocated, size, initialized, stored,
    )  # fmt: skip


def _judge(what: str, attributes: Sequence[CheckedAttribute], next_id: int, fold: Fold) -> list[Problem]:
    problems: list[Problem] = []
    previous: tuple[int, Units, int] | None = None
    ids: set[int] = set()
    for one in attributes:
        key = (one.type, fold(code_units(one.name)), one.lowest)
        if previous is not None and (key < previous or (key == previous and one.type != FILE_NAME)):
            problems.append(Problem("ntfs-attribute-order", f"{one.label} of {what} stands at a wrong place"))
        previous = key
        if one.id in ids:
            problems.append(Problem("ntfs-attribute-id", f"two attributes of {what} have the id {one.id}"))
        ids.add(one.id)
        if one.indexed != (one.type == FILE_NAME):
            text = f"{one.label} of {what} is {'' if one.indexed else 'not '}marked as indexed"
            problems.append(Problem("ntfs-record-damaged", text))
        if one.flags & ~_FLAGS:
            problems.append(Problem("ntfs-record-damaged", f"{one.label} of {what} has flags {one.flags:#x}"))
        if one.type == INDEX_ALLOCATION and one.value is not None:
            problems.append(Problem("ntfs-record-damaged", f"{one.label} of {what} is resident"))
    if ids and next_id <= max(ids):
        text = f"{what} would give its next attribute the id {next_id}, which is in use or was"
        problems.append(Problem("ntfs-attribute-id", text))
    return problems


def segment_of(reference: int) -> int:
    """Return the MFT segment that a reference leads to."""
    return reference & SEGMENT_MASK
