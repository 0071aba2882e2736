"""The file type identifier and the two headers of a VHDX (MS-VHDX 2.2.1, 2.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhdx_format as fmt
from vhdtool.errors import DamagedError, InputError, Problem, UnsupportedError
from vhdtool.layout import packed

_IDENTIFIER = packed(fmt.FILE_IDENTIFIER)
_HEADER = packed(fmt.HEADER)


@dataclass(frozen=True, slots=True)
class Header:
    """One header as stored: lengths and offsets in bytes."""

    sequence_number: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int


@dataclass(frozen=True, slots=True)
class HeaderCopy:
    """One of the two slots. ``fault`` says why it is not valid; then ``header`` is what the bytes say, untrusted."""

    offset: int
    header: Header
    fault: str | None
    current: bool

    @property
    def valid(self) -> bool:
        """Signature and checksum are right."""
        return self.fault is None


def looks_like_vhdx(file: ByteSource) -> bool:
    """Tell whether the file starts with the signature of a VHDX."""
    return file.read_at(fmt.FILE_IDENTIFIER_OFFSET, len(fmt.FILE_SIGNATURE)) == fmt.FILE_SIGNATURE


def read_creator(file: ByteSource, *, path: str | None = None) -> str | None:
    """Return the program that made the file, as the identifier names it; ``None`` where it names none.

    Raises :class:`InputError` ``not-vhdx`` for a file without the signature.
    """
    data = file.read_at(fmt.FILE_IDENTIFIER_OFFSET, _IDENTIFIER.size)
    if data[: len(fmt.FILE_SIGNATURE)] != fmt.FILE_SIGNATURE:
        raise InputError(
            "not-vhdx",
            "the file is no VHDX",
            path=path,
            offset=fmt.FILE_IDENTIFIER_OFFSET,
            expected=repr(fmt.FILE_SIGNATURE),
            found=repr(data[: len(fmt.FILE_SIGNATURE)]),
        )
    _, creator = _IDENTIFIER.unpack(data.ljust(_IDENTIFIER.size, b"\0"))
    return creator.decode("utf-16-le", "replace").partition("\0")[0].strip() or None


def encode_identifier(creator: str) -> bytes:
    """Return the file type identifier of a new file."""
    stored = creator.encode("utf-16-le")
    return fmt.FILE_IDENTIFIER.build({"signature": fmt.FILE_SIGNATURE, "creator": stored[:510].ljust(512, b"\0")})  # type: ignore[no-any-return]


def parse_header(data: bytes) -> Header:
    """Return the fields of a 4 KiB header, whatever they say."""
    (
        _signature,
        _checksum,
        sequence_number,
        file_write_guid,
        data_write_guid,
        log_guid,
        log_version,
        version,
        log_length,
        log_offset,
        _reserved,
    ) = _HEADER.unpack(data)
    return Header(
        sequence_number=sequence_number,
        file_write_guid=fmt.guid_of(file_write_guid),
        data_write_guid=fmt.guid_of(data_write_guid),
        log_guid=fmt.guid_of(log_guid),
        log_version=log_version,
        version=version,
        log_length=log_length,
        log_offset=log_offset,
    )


def encode_header(header: Header) -> bytes:
    """Return the 4 KiB of a header with its checksum."""
    return fmt.sealed(
        fmt.HEADER.build(
            {
                "signature": fmt.HEADER_SIGNATURE,
                "checksum": 0,
                "sequence_number": header.sequence_number,
                "file_write_guid": header.file_write_guid.bytes_le,
                "data_write_guid": header.data_write_guid.bytes_le,
                "log_guid": header.log_guid.bytes_le,
                "log_version": header.log_version,
                "version": header.version,
                "log_length": header.log_length,
                "log_offset": header.log_offset,
                "reserved": bytes(4016),
            }
        )
    )


def read_headers(
    file: ByteSource, *, path: str | None = None
) -> tuple[tuple[HeaderCopy, HeaderCopy], Header, list[Problem]]:
    """Read both headers; return them, the current one, and what was survived.

    The current header is the only valid one, or the one with the higher sequence number (2.2.2). Equal numbers are
    written by Disk2vhd with equal contents, which is accepted; with other contents the first header is taken and
    reported. Raises :class:`DamagedError` ``vhdx-headers-damaged``, :class:`UnsupportedError`
    ``vhdx-version-unsupported``.
    """
    stored = [
        read_exactly(file, offset, fmt.HEADER_SIZE, path=path, what=f"header {number}")
        for number, offset in enumerate(fmt.HEADER_OFFSETS, 1)
    ]
    faults = [_fault_of(data) for data in stored]
    parsed = [parse_header(data) for data in stored]
    problems: list[Problem] = []
    valid = [index for index in (0, 1) if faults[index] is None]
    if not valid:
        raise DamagedError(
            "vhdx-headers-damaged",
            f"both headers are damaged ({faults[0]}; {faults[1]})",
            path=path,
            offset=fmt.HEADER_OFFSETS[0],
            hint=fmt.RESTORE_HINT,
        )
    if len(valid) == 1:
        (current,) = valid
        bad = 1 - current
        problems.append(
            Problem(
                "vhdx-header-copy-damaged",
                f"header {bad + 1} is damaged ({faults[bad]}); header {current + 1} is used",
                path,
                fmt.HEADER_OFFSETS[bad],
            )
        )
    else:
        current = 1 if parsed[1].sequence_number > parsed[0].sequence_number else 0
        if parsed[0].sequence_number == parsed[1].sequence_number and stored[0] != stored[1]:
            problems.append(
                Problem(
                    "vhdx-headers-equal-sequence",
                    "the headers have one sequence number and different contents; header 1 is used",
                    path,
                    fmt.HEADER_OFFSETS[1],
                )
            )
    header = parsed[current]
    if header.version != fmt.VERSION:
        raise UnsupportedError(
            "vhdx-version-unsupported",
            "the file is of another version of the VHDX format",
            path=path,
            offset=fmt.HEADER_OFFSETS[current],
            expected=fmt.VERSION,
            found=header.version,
        )
    first, second = (
        HeaderCopy(fmt.HEADER_OFFSETS[index], parsed[index], faults[index], index == current) for index in (0, 1)
    )
    return (first, second), header, problems


def _fault_of(data: bytes) -> str | None:
    if data[: len(fmt.HEADER_SIGNATURE)] != fmt.HEADER_SIGNATURE:
        return "its signature is wrong"
    return None if fmt.checksum_is_right(data) else "its checksum is wrong"
