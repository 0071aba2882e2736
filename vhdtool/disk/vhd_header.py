"""The dynamic disk header of a VHD: where the BAT is, and for a child who its parent is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit
from uuid import UUID

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.disk.vhd_footer import Footer
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed

_HEADER = packed(fmt.HEADER)
_LOCATOR = packed(fmt.LOCATOR)
_ORDER = (fmt.LOCATOR_RELATIVE, fmt.LOCATOR_ABSOLUTE, fmt.LOCATOR_FILE_URL)


@dataclass(frozen=True, slots=True)
class LocatorEntry:
    """One parent locator as stored; offset and length in bytes of the file."""

    platform_code: bytes
    data_space: int
    data_length: int
    data_offset: int


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """The header as stored, at ``offset`` in the file; ``checksum_right`` tells whether its checksum is."""

    offset: int
    data_offset: int
    table_offset: int
    version: int
    table_entries: int
    block_size: int
    parent_id: UUID
    parent_timestamp: datetime | None  # of the parent when the child was made; None where it is not stated
    parent_name: bytes
    locators: tuple[LocatorEntry, ...]
    checksum_right: bool


def read_header(file: ByteSource, footer: Footer, *, path: str | None = None) -> DynamicHeader:
    """Read the header that a dynamic or differencing image's footer names.

    Raises :class:`DamagedError` ``vhd-header-damaged``, ``vhd-block-size-invalid``; :class:`UnsupportedError`
    ``vhd-version-unsupported``.
    """
    offset = footer.data_offset
    if offset < fmt.FOOTER_SIZE or offset + fmt.HEADER_SIZE > file.size:
        raise _damaged("it does not lie inside the file", path, offset if offset < file.size else None)
    header = parse_header(
        read_exactly(file, offset, fmt.HEADER_SIZE, path=path, what="the dynamic disk header"), offset, path
    )
    if header.version >> 16 != fmt.HEADER_VERSION >> 16:
        raise UnsupportedError(
            "vhd-version-unsupported",
            "the dynamic disk header is of another version",
            path=path,
            offset=offset,
            expected=f"{fmt.HEADER_VERSION:#x}",
            found=f"{header.version:#x}",
        )
    if header.block_size < fmt.BLOCK_SIZE_MIN or header.block_size & (header.block_size - 1):
        raise DamagedError(
            "vhd-block-size-invalid",
            "the blocks have a size that none may have",
            path=path,
            offset=offset,
            expected="a power of 2, at least 512",
            found=header.block_size,
            hint=fmt.RESTORE_HINT,
        )
    return header


def parse_header(data: bytes, offset: int, path: str | None = None) -> DynamicHeader:
    """Return the fields of the 1024 bytes of a header.

    Raises :class:`DamagedError` ``vhd-header-damaged`` without the cookie.
    """
    (
        cookie,
        data_offset,
        table_offset,
        version,
        table_entries,
        block_size,
        checksum,
        parent_id,
        parent_timestamp,
        parent_name,
        locators,
    ) = _HEADER.unpack(data)
    if cookie != fmt.HEADER_COOKIE:
        raise _damaged(f"its cookie is {cookie!r}", path, offset)
    entries = (LocatorEntry(*fields) for fields in _LOCATOR.iter_unpack(locators))
    return DynamicHeader(
        offset=offset,
        data_offset=data_offset,
        table_offset=table_offset,
        version=version,
        table_entries=table_entries,
        block_size=block_size,
        parent_id=UUID(bytes=parent_id),
        parent_timestamp=fmt.EPOCH + timedelta(seconds=parent_timestamp) if parent_timestamp else None,
        parent_name=parent_name,
        locators=tuple(entry for entry in entries if entry.platform_code != bytes(4)),
        checksum_right=checksum == fmt.checksum_of(data, fmt.HEADER_CHECKSUM_OFFSET),
    )


def encode_header(header: DynamicHeader) -> bytes:
    """Return the 1024 bytes of a header with its checksum."""
    stamp = 0 if header.parent_timestamp is None else int((header.parent_timestamp - fmt.EPOCH).total_seconds())
    locators = b"".join(
        _LOCATOR.pack(entry.platform_code, entry.data_space, entry.data_length, entry.data_offset)
        for entry in header.locators
    )
    data = _HEADER.pack(
        fmt.HEADER_COOKIE,
        header.data_offset,
        header.table_offset,
        header.version,
        header.table_entries,
        header.block_size,
        0,
        header.parent_id.bytes,
        stamp,
        header.parent_name,
        locators,
    )
    return fmt.sealed(data, fmt.HEADER_CHECKSUM_OFFSET)


def read_parent_locators(
    file: ByteSource, header: DynamicHeader, *, path: str | None = None
) -> tuple[tuple[ParentLocator, ...], list[Problem]]:
    """Return the ways in which a child names its parent, relative ones first, the name field last.

    A locator that can't be read is a problem, not an error: another one, or the user, may know the parent.
    """
    found: list[ParentLocator] = []
    problems: list[Problem] = []
    for code in _ORDER:
        for entry in header.locators:
            if entry.platform_code != code:
                continue
            text = _locator_text(file, entry)
            locator = _file_url(text) if text and code == fmt.LOCATOR_FILE_URL else None
            if text and code != fmt.LOCATOR_FILE_URL:
                kind = ParentKind.RELATIVE if code == fmt.LOCATOR_RELATIVE else ParentKind.ABSOLUTE
                locator = ParentLocator(kind, text)
            if locator is None:
                message = f"the parent locator {code.decode()} can't be read"
                problems.append(Problem("vhd-parent-locator-damaged", message, path, header.offset))
            else:
                found.append(locator)
    name = _utf16(header.parent_name, "utf-16-be")
    if name:
        found.append(ParentLocator(ParentKind.NAME, name))
    return tuple(found), problems


def _locator_text(file: ByteSource, entry: LocatorEntry) -> str | None:
    if not 0 < entry.data_length <= fmt.LOCATOR_LENGTH_LIMIT or entry.data_offset + entry.data_length > file.size:
        return None
    data = file.read_at(entry.data_offset, entry.data_length)
    if entry.platform_code != fmt.LOCATOR_FILE_URL:
        return _utf16(data, "utf-16-le")
    try:
        return data.decode().partition("\0")[0]
    except UnicodeDecodeError:
        return None


def _file_url(text: str) -> ParentLocator | None:
    """``file://./base.vhd``, as XenServer writes it, is relative to the child; ``file:///disks/base.vhd`` is not."""
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    if url.scheme != "file" or url.netloc not in {"", ".", "..", "localhost"}:
        return None
    path = unquote(url.path)
    if url.netloc in {".", ".."}:
        return ParentLocator(ParentKind.RELATIVE, url.netloc + path)
    return ParentLocator(ParentKind.ABSOLUTE, path) if path else None


def _utf16(data: bytes, encoding: str) -> str | None:
    """The text up to the first NUL; ``None`` where it is empty or no UTF-16."""
    try:
        return data[: len(data) & ~1].decode(encoding).partition("\0")[0] or None
    except UnicodeDecodeError:
        return None


def _damaged(what: str, path: str | None, offset: int | None) -> DamagedError:
    return DamagedError(
        "vhd-header-damaged",
        f"the dynamic disk header is damaged: {what}",
        path=path,
        offset=offset,
        hint=fmt.RESTORE_HINT,
    )
