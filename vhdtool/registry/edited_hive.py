"""A hive after its edits: what of its file has to be written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vhdtool.bytesource import ByteSource
from vhdtool.registry.format import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class EditedHive:
    """What came of the edits.

    ``size``: bytes of the file as it shall be. ``grew_from``: its size before, where the file has to grow, else
    ``None``. ``image``: the whole hive as it shall be. ``sequence``: both its sequence numbers. ``file``: the hive's
    file as it lies there. ``pages``: numbers of the pages that may differ from it; none where nothing was changed.
    """

    size: int
    grew_from: int | None
    image: ByteSource
    sequence: int
    file: ByteSource
    pages: tuple[int, ...]

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.pages)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield what differs from the file, a page at a time: file offset and bytes; the base block comes last.

        Of a hive that was recovered, what its logs brought is among it.
        """
        for number in (*(number for number in self.pages if number), *(0 for number in self.pages if not number)):
            offset = number * PAGE_SIZE
            length = min(PAGE_SIZE, self.size - offset)
            piece = self.image.read_at(offset, length)
            if offset >= self.file.size or self.file.read_at(offset, length) != piece:
                yield offset, piece
