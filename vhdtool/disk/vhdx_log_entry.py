"""One entry of the VHDX log: a header, descriptors, data sectors (MS-VHDX 2.3.1), read and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from vhdtool.disk import vhdx_format as fmt
from vhdtool.layout import packed

ENTRY_HEADER = packed(fmt.LOG_ENTRY_HEADER)
_DATA_DESCRIPTOR = packed(fmt.LOG_DATA_DESCRIPTOR)
_ZERO_DESCRIPTOR = packed(fmt.LOG_ZERO_DESCRIPTOR)
_DATA_SECTOR = packed(fmt.LOG_DATA_SECTOR)
_SECTOR = fmt.LOG_SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """The header of an entry; lengths and offsets in bytes, ``tail`` from the start of the log."""

    entry_length: int
    tail: int
    sequence_number: int
    descriptor_count: int
    log_guid: UUID
    flushed_file_offset: int
    last_file_offset: int


@dataclass(frozen=True, slots=True)
class DataWrite:
    """A data descriptor with its sector: the 4 KiB ``data`` belong at ``file_offset``."""

    file_offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ZeroWrite:
    """A zero descriptor: ``length`` bytes from ``file_offset`` become zeros."""

    file_offset: int
    length: int


LogWrite = DataWrite | ZeroWrite


def descriptor_sectors(descriptor_count: int) -> int:
    """Sectors that the header and ``descriptor_count`` descriptors fill: 126 in the first, 128 in each further."""
    return -(-(ENTRY_HEADER.size + descriptor_count * _DATA_DESCRIPTOR.size) // _SECTOR)


def parse_entry_header(data: bytes) -> EntryHeader:
    """Return the header's fields from the first 64 bytes of an entry, whatever they say."""
    _, _, entry_length, tail, sequence_number, count, _, log_guid, flushed, last = ENTRY_HEADER.unpack_from(data)
    return EntryHeader(entry_length, tail, sequence_number, count, fmt.guid_of(log_guid), flushed, last)


def writes_of(entry: bytes, header: EntryHeader) -> Iterator[LogWrite]:
    """Return the writes of an entry in their order.

    Raises :class:`ValueError` where a signature, a sequence number or the number of data sectors is wrong: the
    entry is not valid (2.3.1.2 to 2.3.1.4). ``entry`` is as long as its header says.
    """
    sector_at = descriptor_sectors(header.descriptor_count) * _SECTOR
    place = ENTRY_HEADER.size
    for _ in range(header.descriptor_count):
        signature = entry[place : place + 4]
        if signature == fmt.LOG_DATA_DESCRIPTOR_SIGNATURE:
            _, trailing, leading, file_offset, sequence = _DATA_DESCRIPTOR.unpack_from(entry, place)
            if sector_at + _SECTOR > len(entry):
                raise ValueError("a data sector is missing")
            signature, high, data, low = _DATA_SECTOR.unpack_from(entry, sector_at)
            if signature != fmt.LOG_DATA_SECTOR_SIGNATURE or high << 32 | low != header.sequence_number:
                raise ValueError("a data sector is of another entry")
            sector_at += _SECTOR
            write: LogWrite = DataWrite(file_offset, leading + data + trailing)
        elif signature == fmt.LOG_ZERO_DESCRIPTOR_SIGNATURE:
            _, _, length, file_offset, sequence = _ZERO_DESCRIPTOR.unpack_from(entry, place)
            write = ZeroWrite(file_offset, length)
        else:
            raise ValueError("a descriptor has no signature")
        if sequence != header.sequence_number:
            raise ValueError("a descriptor is of another entry")
        yield write
        place += _DATA_DESCRIPTOR.size
    if sector_at != len(entry):
        raise ValueError("the entry is longer than its descriptors say")


def encode_entry(
    writes: Sequence[LogWrite],
    *,
    log_guid: UUID,
    sequence_number: int,
    tail: int,
    flushed_file_offset: int,
    last_file_offset: int,
) -> bytes:
    """Return the bytes of a log entry with its checksum; offsets and lengths are multiples of 4 KiB."""
    sectors = []
    descriptors = []
    for write in writes:
        if isinstance(write, DataWrite):
            data = write.data
            descriptors.append(
                _DATA_DESCRIPTOR.pack(
                    fmt.LOG_DATA_DESCRIPTOR_SIGNATURE, data[4092:], data[:8], write.file_offset, sequence_number
                )
            )
            sectors.append(
                _DATA_SECTOR.pack(
                    fmt.LOG_DATA_SECTOR_SIGNATURE, sequence_number >> 32, data[8:4092], sequence_number & 0xFFFFFFFF
                )
            )
        else:
            descriptors.append(
                _ZERO_DESCRIPTOR.pack(
                    fmt.LOG_ZERO_DESCRIPTOR_SIGNATURE, 0, write.length, write.file_offset, sequence_number
                )
            )
    front = descriptor_sectors(len(descriptors)) * _SECTOR
    header = ENTRY_HEADER.pack(
        fmt.LOG_ENTRY_SIGNATURE,
        0,
        front + len(sectors) * _SECTOR,
        tail,
        sequence_number,
        len(descriptors),
        0,
        log_guid.bytes_le,
        flushed_file_offset,
        last_file_offset,
    )
    return fmt.sealed((header + b"".join(descriptors)).ljust(front, b"\0") + b"".join(sectors))
