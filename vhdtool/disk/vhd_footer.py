"""The footer of a VHD and its copy at the start of the file: which one to believe.

A fixed image has one footer, at the end. Dynamic and differencing images have a copy of it in the first sector, and
either may be lost: a copy that was cut off lacks the one, an overwritten start the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from vhdtool.bytesource import ByteSource, read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.errors import DamagedError, Problem, UnsupportedError
from vhdtool.layout import packed

_FOOTER = packed(fmt.FOOTER)
_KNOWN_TYPES = frozenset(fmt.DiskType)


@dataclass(frozen=True, slots=True)
class Footer:
    """A footer as stored. Sizes in bytes; ``geometry`` is cylinders, heads, sectors per track."""

    features: int
    format_version: int
    data_offset: int
    timestamp: datetime
    creator_application: bytes
    creator_version: int
    creator_host: bytes
    original_size: int
    current_size: int
    geometry: tuple[int, int, int]
    disk_type: int
    unique_id: UUID
    saved_state: bool

    @property
    def creator(self) -> str | None:
        """The program that made the image and its version, as ``win 6.3``; ``None`` where none is named."""
        name = "".join(chr(byte) for byte in self.creator_application if 0x20 <= byte < 0x7F).strip()
        return f"{name} {self.creator_version >> 16}.{self.creator_version & 0xFFFF}" if name else None

    @property
    def geometry_size(self) -> int:
        """The bytes that cylinders, heads and sectors reach: what Virtual PC and old QEMU call the size."""
        cylinders, heads, sectors = self.geometry
        return cylinders * heads * sectors * fmt.SECTOR_SIZE


@dataclass(frozen=True, slots=True)
class FooterCopy:
    """What lies where a footer belongs. ``footer`` is ``None`` without a cookie; with a ``fault`` it is untrusted."""

    offset: int
    size: int
    footer: Footer | None
    fault: str | None

    @property
    def valid(self) -> bool:
        """Cookie and checksum are right."""
        return self.fault is None


@dataclass(frozen=True, slots=True)
class Footers:
    """The footer in effect. Where ``trusted`` is false no copy has a right checksum: all else must agree with it."""

    footer: Footer
    head: FooterCopy | None
    tail: FooterCopy
    trusted: bool
    problems: tuple[Problem, ...]

    @property
    def data_end(self) -> int:
        """Where the last footer starts: blocks lie before it."""
        return self.tail.offset if self.tail.footer is not None else self.tail.offset + self.tail.size


def looks_like_vhd(file: ByteSource) -> bool:
    """Tell whether a footer's cookie stands at the start of the file or where a footer at its end would start."""
    cookie = fmt.FOOTER_COOKIE
    if file.read_at(0, len(cookie)) == cookie:
        return True
    last = file.read_at(max(0, file.size - fmt.FOOTER_SIZE), len(cookie) + 1)
    return last.startswith(cookie) or (file.size > fmt.FOOTER_SIZE and last[1:] == cookie)


def parse_footer(data: bytes) -> Footer:
    """Return the fields of a 512-byte footer, whatever they say."""
    (
        _cookie,
        features,
        format_version,
        data_offset,
        timestamp,
        creator_application,
        creator_version,
        creator_host,
        original_size,
        current_size,
        cylinders,
        heads,
        sectors,
        disk_type,
        _checksum,
        unique_id,
        saved_state,
    ) = _FOOTER.unpack(data)
    return Footer(
        features=features,
        format_version=format_version,
        data_offset=data_offset,
        timestamp=fmt.EPOCH + timedelta(seconds=timestamp),
        creator_application=creator_application,
        creator_version=creator_version,
        creator_host=creator_host,
        original_size=original_size,
        current_size=current_size,
        geometry=(cylinders, heads, sectors),
        disk_type=disk_type,
        unique_id=UUID(bytes=unique_id),
        saved_state=bool(saved_state),
    )


def encode_footer(footer: Footer) -> bytes:
    """Return the 512 bytes of a footer with its checksum."""
    cylinders, heads, sectors = footer.geometry
    data = _FOOTER.pack(
        fmt.FOOTER_COOKIE,
        footer.features,
        footer.format_version,
        footer.data_offset,
        int((footer.timestamp - fmt.EPOCH).total_seconds()),
        footer.creator_application,
        footer.creator_version,
        footer.creator_host,
        footer.original_size,
        footer.current_size,
        cylinders,
        heads,
        sectors,
        footer.disk_type,
        0,
        footer.unique_id.bytes,
        footer.saved_state,
    )
    return fmt.sealed(data, fmt.FOOTER_CHECKSUM_OFFSET)


def read_footers(file: ByteSource, *, path: str | None = None) -> Footers:
    """Read both places and choose.

    Raises :class:`DamagedError` ``vhd-footer-damaged``, ``vhd-size-invalid``; :class:`UnsupportedError`
    ``vhd-version-unsupported``, ``vhd-type-unsupported``.
    """
    if file.size < fmt.FOOTER_SIZE:
        raise DamagedError(
            "vhd-footer-damaged",
            "the file is shorter than a VHD footer",
            path=path,
            expected=f"at least {fmt.FOOTER_SIZE} bytes",
            found=f"{file.size} bytes",
            hint=fmt.RESTORE_HINT,
        )
    tail = _read_tail(file, path)
    head = _read_copy(file, 0, fmt.FOOTER_SIZE, path) if tail.offset >= fmt.FOOTER_SIZE else None
    if tail.valid and tail.footer is not None:
        footer, trusted, problems = tail.footer, True, _judge_head(tail.footer, head, path)
    elif head is not None and head.valid and head.footer is not None and head.footer.disk_type != fmt.DiskType.FIXED:
        footer, trusted = head.footer, True
        problems = [
            Problem(
                "vhd-footer-damaged",
                f"the footer at the end of the file is not valid ({tail.fault}); its copy at the start is used",
                path,
                tail.offset,
            )
        ]
    else:
        footer, trusted = _agreed_footer(file, head, tail, path), False
        problems = [
            Problem(
                "vhd-checksums-bad",
                "no footer has the right checksum; type, sizes and tables agree with each other and are used",
                path,
                tail.offset,
            )
        ]
    _check(footer, path, tail.offset)
    return Footers(footer, head, tail, trusted, tuple(problems))


def _read_tail(file: ByteSource, path: str | None) -> FooterCopy:
    copy = _read_copy(file, file.size - fmt.FOOTER_SIZE, fmt.FOOTER_SIZE, path)
    if copy.footer is None:
        short = _read_copy(file, file.size - fmt.SHORT_FOOTER_SIZE, fmt.SHORT_FOOTER_SIZE, path)
        if short.footer is not None:
            return short
    return copy


def _read_copy(file: ByteSource, offset: int, size: int, path: str | None) -> FooterCopy:
    data = read_exactly(file, offset, size, path=path, what="the footer").ljust(fmt.FOOTER_SIZE, b"\0")
    if not data.startswith(fmt.FOOTER_COOKIE):
        return FooterCopy(offset, size, None, "it has no cookie")
    stored = int.from_bytes(data[fmt.FOOTER_CHECKSUM_OFFSET : fmt.FOOTER_CHECKSUM_OFFSET + 4], "big")
    right = stored == fmt.checksum_of(data, fmt.FOOTER_CHECKSUM_OFFSET)
    return FooterCopy(offset, size, parse_footer(data), None if right else "its checksum is wrong")


def _judge_head(footer: Footer, head: FooterCopy | None, path: str | None) -> list[Problem]:
    if footer.disk_type == fmt.DiskType.FIXED:
        return []
    if head is None or head.fault is not None:
        fault = "it is not there" if head is None else head.fault
        message = f"the copy of the footer at the start of the file is not valid ({fault})"
        return [Problem("vhd-footer-copy-damaged", message, path, 0)]
    if head.footer != footer:
        message = "the footer and its copy at the start of the file differ; the footer is used"
        return [Problem("vhd-footer-copies-differ", message, path, 0)]
    return []


def _agreed_footer(file: ByteSource, head: FooterCopy | None, tail: FooterCopy, path: str | None) -> Footer:
    """The footer of an image without a right checksum, where everything else speaks for it."""
    if tail.footer is not None:
        footer = tail.footer
        fixed = footer.disk_type == fmt.DiskType.FIXED
        if fixed and footer.current_size == file.size - tail.size:
            return footer
        if not fixed and head is not None and head.footer == footer:
            return footer
    faults = f"at the end: {tail.fault}" + (f"; at the start: {head.fault or 'its type is fixed'}" if head else "")
    raise DamagedError(
        "vhd-footer-damaged",
        f"the image has no valid footer ({faults})",
        path=path,
        offset=tail.offset,
        hint=fmt.RESTORE_HINT,
    )


def _check(footer: Footer, path: str | None, offset: int) -> None:
    if footer.format_version >> 16 != fmt.FORMAT_VERSION >> 16:
        raise UnsupportedError(
            "vhd-version-unsupported",
            "the image is of another version of the VHD format",
            path=path,
            offset=offset,
            expected=f"{fmt.FORMAT_VERSION:#x}",
            found=f"{footer.format_version:#x}",
        )
    if footer.disk_type not in _KNOWN_TYPES:
        raise UnsupportedError(
            "vhd-type-unsupported",
            "the image is neither fixed nor dynamic nor differencing",
            path=path,
            offset=offset,
            expected="disk type 2, 3 or 4",
            found=footer.disk_type,
        )
    dynamic = footer.disk_type != fmt.DiskType.FIXED
    too_large = dynamic and footer.current_size > fmt.VIRTUAL_SIZE_MAX  # a fixed one is bounded by its file
    if too_large or footer.current_size == 0 or footer.current_size % fmt.SECTOR_SIZE:
        raise DamagedError(
            "vhd-size-invalid",
            "the disk has a size that none may have",
            path=path,
            offset=offset,
            expected="a multiple of 512 bytes, more than 0" + (", at most 2040 GiB" if dynamic else ""),
            found=footer.current_size,
            hint=fmt.RESTORE_HINT,
        )
