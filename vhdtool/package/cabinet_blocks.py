"""The data blocks of a folder: in order through all parts of a set, put together where split, checksums checked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vhdtool.errors import DamagedError
from vhdtool.layout import packed
from vhdtool.package.cabinet_format import BLOCK, LARGEST_PACKED_BLOCK, LARGEST_UNPACKED_BLOCK, MOST_BLOCKS
from vhdtool.package.cabinet_part import CabinetPart, PartFolder, damaged

_BLOCK = packed(BLOCK)
_SIZES = 4  # the part of a block's header that its checksum covers
_READ = 1 << 17


@dataclass(frozen=True, slots=True)
class FolderPiece:
    """What one part of a set holds of a folder."""

    part: CabinetPart
    folder: PartFolder


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a cabinet or set. ``goes_on``, ``began_before``: into or from a part that is not here."""

    pieces: tuple[FolderPiece, ...]
    goes_on: bool
    began_before: bool

    @property
    def compression(self) -> int:
        """The word of the folder table."""
        return self.pieces[0].folder.compression

    @property
    def largest_size(self) -> int:
        """More bytes can't be in it."""
        return sum(piece.folder.block_count for piece in self.pieces) * LARGEST_UNPACKED_BLOCK


@dataclass(frozen=True, slots=True)
class DataBlock:
    """One whole block: its packed bytes, how long they are unpacked, and where it begins in which file."""

    data: bytes
    unpacked_size: int
    path: str
    offset: int


class NeededBlocks:
    """The blocks that hold the first ``need`` bytes of a folder, to be iterated once.

    Iterating ends early where a block is damaged or missing; ``error`` then says so.
    """

    def __init__(self, folder: Folder, need: int) -> None:
        self.compression = folder.compression
        self.need = need
        self.error: DamagedError | None = None
        self._folder = folder
        self._places: list[tuple[str, int]] = []
        self._ends: list[int] = []

    @property
    def count(self) -> int:
        """How many blocks came so far."""
        return len(self._places)

    @property
    def size(self) -> int:
        """How long the blocks that came so far are unpacked, in bytes."""
        return self._ends[-1] if self._ends else 0

    def place_of(self, offset: int) -> tuple[str, int]:
        """Return the path and offset of the block that holds an unpacked byte; the last block for any after it."""
        return self._places[min(bisect_right(self._ends, offset), len(self._places) - 1)]

    def __iter__(self) -> Iterator[DataBlock]:
        if self.need == 0:
            return
        try:
            for block in folder_blocks(self._folder.pieces, goes_on=self._folder.goes_on):
                if self.count == MOST_BLOCKS:
                    raise damaged("a folder has too many data blocks", block.path, block.offset, MOST_BLOCKS)
                self._places.append((block.path, block.offset))
                self._ends.append(self.size + block.unpacked_size)
                yield block
                if self.size >= self.need:
                    return
        except DamagedError as error:
            self.error = error
            return
        last = self._folder.pieces[-1].part
        self.error = damaged("the files of a folder are longer than its data", last.path, None, self.need, self.size)


def folder_blocks(pieces: Sequence[FolderPiece], *, goes_on: bool) -> Iterator[DataBlock]:
    """Yield the blocks of a folder. ``goes_on``: its last piece continues in a part that is not here.

    Raises:
        DamagedError: ``cabinet-damaged``: a block breaks the format's rules or is cut off; ``cabinet-checksum``;
            ``cabinet-part-missing``: the rest of a block is in a part that is not here.
    """
    begun = b""
    for number, piece in enumerate(pieces):
        last_piece = number == len(pieces) - 1
        reader = _BlockReader(piece)
        for index in range(piece.folder.block_count):
            offset = reader.offset
            fragment, unpacked_size = reader.block()
            data = begun + fragment
            begun = b""
            if len(data) > LARGEST_PACKED_BLOCK or not fragment:
                raise damaged(
                    "a data block has an impossible packed size",
                    piece.part.path,
                    offset,
                    f"1 to {LARGEST_PACKED_BLOCK}",
                    len(data),
                )
            if unpacked_size:
                yield DataBlock(data, unpacked_size, piece.part.path, offset)
                continue
            if index != piece.folder.block_count - 1 or (last_piece and not goes_on):
                raise damaged("a data block is empty", piece.part.path, offset, "at least 1 byte unpacked", 0)
            begun = data
    if begun or goes_on:
        part = pieces[-1].part
        raise part_missing(part.path, part.next_name)


def part_missing(path: str, name: str | None) -> DamagedError:
    """Make the error for a file that lies partly in another file of the set."""
    return DamagedError(
        "cabinet-part-missing",
        "the cabinet is one part of a set, and another part is needed",
        path=path,
        expected=name,
        hint="Put all parts of the set beside each other and name the first.",
    )


def block_checksum(data: bytes, sizes: bytes) -> int:
    """Return the checksum of a block: its data and the sizes in its header, XORed as 32-bit words (MS-CAB 3.1)."""
    tail = len(data) & 3
    value = _xor_words(data[: len(data) - tail]) ^ int.from_bytes(sizes, "little")
    return value ^ int.from_bytes(data[len(data) - tail :], "big") if tail else value


def _xor_words(data: bytes) -> int:
    value, words = int.from_bytes(data, "little"), len(data) // 4
    while words > 1:  # fold in halves: one big XOR is fast where a loop over words is not
        half = (words + 1) // 2
        value = (value >> 32 * half) ^ (value & ((1 << 32 * half) - 1))
        words = half
    return value


class _BlockReader:
    """Reads a piece's blocks in order, many at a time."""

    def __init__(self, piece: FolderPiece) -> None:
        self._part = piece.part
        self.offset = piece.folder.data_offset
        self._buffer = b""
        self._buffer_offset = self.offset
        if piece.folder.block_count and self.offset < self._part.tables_end:
            raise damaged(
                "a folder's data lies in the cabinet's tables",
                self._part.path,
                self.offset,
                f"from {self._part.tables_end:#x} on",
            )

    def block(self) -> tuple[bytes, int]:
        start = self.offset
        header = self._take(_BLOCK.size)
        checksum, packed_size, unpacked_size = _BLOCK.unpack(header)
        if unpacked_size > LARGEST_UNPACKED_BLOCK:
            raise damaged(
                "a data block is too large",
                self._part.path,
                start,
                f"at most {LARGEST_UNPACKED_BLOCK} bytes unpacked",
                unpacked_size,
            )
        self._take(self._part.block_reserve)
        data = self._take(packed_size)
        if checksum and checksum != (found := block_checksum(data, header[_SIZES:])):
            raise DamagedError(
                "cabinet-checksum",
                "a data block's checksum is wrong",
                path=self._part.path,
                offset=start,
                expected=f"{checksum:#010x}",
                found=f"{found:#010x}",
                hint="The file is damaged: copy it again from where it came from.",
            )
        return data, unpacked_size

    def _take(self, length: int) -> bytes:
        start = self.offset - self._buffer_offset
        if start + length > len(self._buffer):
            self._buffer = self._part.source.read_at(self.offset, max(length, _READ))
            self._buffer_offset, start = self.offset, 0
        data = self._buffer[start : start + length]
        if len(data) < length:
            raise damaged("a data block is cut off", self._part.path, self.offset, f"{length} bytes", len(data))
        self.offset += length
        return data
