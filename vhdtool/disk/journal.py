"""The redo journal of a fixed VHD or raw image: what shall be written, kept beside the image until all of it is.

The file ``IMAGE.vhdtool-journal`` lies in the folder of the image (of the file itself, where a symbolic link leads to
it). First comes all that shall be written, then, once that is on stable storage, the first sector, which makes it a
journal: without it the file counts for nothing, and the image is the old disk.

A journal belongs to an image when sizes and identity agree and each sector of the image that it names is either as
the journal says that it was before or as it shall be. A fixed VHD has a mark in the place of its footer while the
journal is applied, with the journal's own id: other readers refuse such a file, and ours asks for the journal.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from construct import Bytes, Int32ul, Int64ul, Padding, Struct

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.disk.device import FileDevice, Slice
from vhdtool.disk.host_store import HostFile
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.layout import offset_of, packed

SECTOR_SIZE = 512
VERSION = 1
MAGIC = b"vhdtool journal\0"
HEAD = Struct(
    "magic" / Bytes(16),
    "version" / Int32ul,
    "footer_size" / Int32ul,  # 511 or 512; 0 for a raw image
    "journal_id" / Bytes(16),
    "unique_id" / Bytes(16),  # of a VHD; zeros for a raw image
    "image_size" / Int64ul,  # bytes of the image file
    "journal_size" / Int64ul,
    "table_offset" / Int64ul,
    "record_count" / Int64ul,
    "digest" / Bytes(32),  # SHA-256 of this sector with the digest zeroed and of the SHA-256 of all that follows
    "reserved" / Padding(392),
)
RECORD = Struct(
    "offset" / Int64ul,  # in the image
    "place" / Int64ul,  # in the journal: the bytes, then a CRC-32 for each sector of the image as it was
    "length" / Int32ul,
    "reserved" / Padding(4),
)
MARK = Struct(  # in the place of a fixed VHD's footer
    "magic" / Bytes(16),
    "text" / Bytes(112),
    "journal_id" / Bytes(16),
    "reserved" / Padding(368),
)
MARK_MAGIC = b"vhdtool pending\0"
MARK_TEXT = b"This image is being changed. Do not use it before 'vhdtool recover' on it, with its journal beside it."
HEAD_SIZE: int = HEAD.sizeof()
FOOTER_PLACE = HEAD_SIZE
BODY_PLACE = FOOTER_PLACE + SECTOR_SIZE
RECORD_LENGTH_LIMIT = 1 << 20
PIECE = 1 << 20
_TABLE_PIECE = 1 << 15  # records read at once
_HEAD = packed(HEAD)
_RECORD = packed(RECORD)
_MARK = packed(MARK)
_CRC = packed(Struct("crc" / Int32ul))
_NO_DIGEST = bytes(32)
_DIGEST_AT = offset_of(HEAD, "digest")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The image that a journal is for. Sizes in bytes; ``footer`` is empty for a raw image."""

    size: int
    unique_id: UUID | None = None
    footer: bytes = b""


@dataclass(slots=True)
class Records:
    """What shall be written where: 20 bytes of memory for each record."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))

    def add(self, offset: int, place: int, length: int) -> None:
        """Add a record behind the others."""
        self.offsets.append(offset)
        self.places.append(place)
        self.lengths.append(length)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.offsets)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Offset in the image, place in the journal, length."""
        return zip(self.offsets, self.places, self.lengths, strict=True)


@dataclass(frozen=True, slots=True)
class Journal:
    """A whole journal. ``file`` is its file; closing that is the owner's business."""

    file: FileDevice
    journal_id: bytes
    image: ImageFacts
    records: Records

    @property
    def footer_offset(self) -> int:
        """Where the image's footer starts."""
        return self.image.size - len(self.image.footer)

    @property
    def mark(self) -> bytes:
        """What takes the footer's place."""
        return mark_of(self.journal_id)[: len(self.image.footer)]

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """What shall be written: offset in the image, bytes."""
        for offset, place, length in self.records:
            yield offset, self.file.read_at(place, length)

    def over(self, image: ByteSource) -> PatchedSource:
        """The image as it will be once the journal is applied."""
        patches = [Patch(offset, Slice(self.file, place, length)) for offset, place, length in self.records]
        if self.image.footer:
            patches.append(Patch(self.footer_offset, BytesSource(self.image.footer)))
        return PatchedSource(image, self.image.size, patches)

    def belongs_to(self, image: ByteSource) -> bool:
        """Tell whether applying it to ``image`` gives the disk that it was written for."""
        if image.size != self.image.size:
            return False
        footer = self.image.footer
        if footer:
            found = image.read_at(self.footer_offset, len(footer))
            if found == self.mark:
                return True
            if found != footer:
                return False
        return all(self._known(image, *record) for record in self.records)

    def _known(self, image: ByteSource, offset: int, place: int, length: int) -> bool:
        found = image.read_at(offset, length)
        new = self.file.read_at(place, length)
        if found == new:
            return True
        old = _CRC.iter_unpack(self.file.read_at(place + length, length // SECTOR_SIZE * _CRC.size))
        return len(found) == length and all(
            zlib.crc32(found[start : start + SECTOR_SIZE]) == crc
            or found[start : start + SECTOR_SIZE] == new[start : start + SECTOR_SIZE]
            for start, (crc,) in zip(range(0, length, SECTOR_SIZE), old, strict=True)
        )


def journal_name(path: str) -> str:
    """The path of the journal of an image, symbolic links followed."""
    return f"{os.path.realpath(path)}.vhdtool-journal"


def mark_of(journal_id: bytes) -> bytes:
    """Return the sector that takes a footer's place."""
    return _MARK.pack(MARK_MAGIC, MARK_TEXT.ljust(112, b"\0"), journal_id)


def is_marked(image: ByteSource) -> bool:
    """Tell whether a file ends with a mark instead of a footer."""
    end = image.read_at(max(0, image.size - SECTOR_SIZE), len(MARK_MAGIC) + 1)
    return end.startswith(MARK_MAGIC) or (image.size >= SECTOR_SIZE and end[1:] == MARK_MAGIC)


def write_journal(
    file: HostFile, journal_id: bytes, image: ImageFacts, pieces: Iterable[tuple[int, bytes, bytes]]
) -> bytes:
    """Write all of a journal but its first sector; return that. Nothing is flushed.

    ``pieces``: offset in the image, bytes to be written, bytes there now, as long; whole sectors, in order, apart, at
    most 1 MiB each.
    """
    body = hashlib.sha256()
    position = FOOTER_PLACE
    records = Records()

    def append(data: bytes) -> None:
        nonlocal position
        file.write_at(position, data)
        body.update(data)
        position += len(data)

    append(image.footer.ljust(SECTOR_SIZE, b"\0"))
    for offset, new, old in pieces:
        if len(new) != len(old) or len(new) % SECTOR_SIZE or not 0 < len(new) <= RECORD_LENGTH_LIMIT:
            raise ValueError("a record holds whole sectors, at most 1 MiB")
        records.add(offset, position, len(new))
        sums = (zlib.crc32(old[start : start + SECTOR_SIZE]) for start in range(0, len(old), SECTOR_SIZE))
        append(new + b"".join(_CRC.pack(crc) for crc in sums))
    table = position
    for record in records:
        append(_RECORD.pack(*record))
    sizes = position, table, len(records)
    digest = hashlib.sha256(_pack_head(journal_id, image, sizes, _NO_DIGEST) + body.digest()).digest()
    return _pack_head(journal_id, image, sizes, digest)


def _pack_head(journal_id: bytes, image: ImageFacts, sizes: tuple[int, int, int], digest: bytes) -> bytes:
    owner = bytes(16) if image.unique_id is None else image.unique_id.bytes
    return _HEAD.pack(MAGIC, VERSION, len(image.footer), journal_id, owner, image.size, *sizes, digest)


def read_journal(file: FileDevice) -> Journal | None:
    """Read and check a whole journal; ``None`` where its first sector was never written.

    Raises :class:`DamagedError` ``journal-damaged``, :class:`UnsupportedError` ``journal-version-unsupported``.
    """
    head = file.read_at(0, _HEAD.size)
    if not any(head):
        return None
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise _damaged(file, "it does not start as one")
    _, version, footer_size, journal_id, owner, image_size, size, table, count, digest = _HEAD.unpack(head)
    if version != VERSION:
        raise UnsupportedError(
            "journal-version-unsupported",
            "the journal of an interrupted change is of another version",
            path=file.path,
            expected=VERSION,
            found=version,
            hint="Run vhdtool recover of the version that wrote it.",
        )
    if size != file.size or footer_size > SECTOR_SIZE or table + count * _RECORD.size != size or table < BODY_PLACE:
        raise _damaged(file, "its size is not what it says")
    image = ImageFacts(
        image_size,
        UUID(bytes=owner) if footer_size else None,
        file.read_at(FOOTER_PLACE, footer_size),
    )
    body = hashlib.sha256()
    for offset in range(FOOTER_PLACE, size, PIECE):
        body.update(file.read_at(offset, min(PIECE, size - offset)))
    unsealed = head[:_DIGEST_AT] + _NO_DIGEST + head[_DIGEST_AT + len(_NO_DIGEST) :]
    if hashlib.sha256(unsealed + body.digest()).digest() != digest:
        raise _damaged(file, "its checksum is wrong")
    return Journal(file, journal_id, image, _read_records(file, table, count, image))


def _read_records(file: FileDevice, table: int, count: int, image: ImageFacts) -> Records:
    records = Records()
    end, position, disk_end = 0, BODY_PLACE, image.size - len(image.footer)
    for first in range(0, count, _TABLE_PIECE):
        length = min(_TABLE_PIECE, count - first) * _RECORD.size
        for offset, place, size in _RECORD.iter_unpack(file.read_at(table + first * _RECORD.size, length)):
            stored_end = place + size + size // SECTOR_SIZE * _CRC.size
            whole = (offset | size) % SECTOR_SIZE == 0 and 0 < size <= RECORD_LENGTH_LIMIT
            if not whole or offset < end or offset + size > disk_end or place != position or stored_end > table:
                raise _damaged(file, "a record lies where it can't")
            records.add(offset, place, size)
            end, position = offset + size, stored_end
    return records


def _damaged(file: FileDevice, what: str) -> DamagedError:
    return DamagedError(
        "journal-damaged",
        f"the journal of an interrupted change is damaged: {what}",
        path=file.path,
        hint="Restore the image from a copy, and remove the journal.",
    )
