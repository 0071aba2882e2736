"""A copy-on-write view of a disk: writes go to a spool file, the disk below is never touched.

Each MiB of the disk that is written has its own MiB in the spool (an unnamed temporary file, sparse where the host
has holes), one bit for each page of 4 KiB that was written, and, once it was asked for, one bit for each sector that
differs. So the memory needed is at most 800 bytes for each MiB that is touched, whatever is written into it: 10 GiB
of changes need 8 MB.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final, Self

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.positioned_io import read_part, write_part
from vhdtool.errors import OutputError

SLOT: Final = 1 << 20
PAGE: Final = 4096
COMPARED: Final = 256 << 10  # larger pieces cost more: the allocator gives big buffers back to the system each time
_PAGES = SLOT // PAGE
_ALL = (1 << _PAGES) - 1


class Overlay:
    """A disk as it shall be: a :class:`vhdtool.disk.changes.Changes` that can be written to.

    ``spool_folder`` is where the spool file is made; by default where the host keeps temporary files. Not safe for
    use by several threads.
    """

    def __init__(self, base: VirtualDisk, *, spool_folder: str | os.PathLike[str] | None = None) -> None:
        self.base = base
        self._size = base.size
        self._sector_size = base.logical_sector_size
        self._folder = None if spool_folder is None else os.fspath(spool_folder)
        self._spool: int | None = None
        self._slots: dict[int, int] = {}  # MiB of the disk -> MiB of the spool
        self._written: dict[int, int] = {}  # MiB of the disk -> bit for each page
        self._differing: dict[int, int] = {}  # MiB of the disk -> bit for each sector, where it is known

    def __enter__(self) -> Self:
        """Give the overlay itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the changes."""
        self.close()

    def close(self) -> None:
        """Drop the changes and the spool file; ``base`` stays open. A second call does nothing."""
        if self._spool is not None:
            os.close(self._spool)
            self._spool = None
        self._slots.clear()
        self._written.clear()
        self._differing.clear()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    @property
    def logical_sector_size(self) -> int:
        """512 or 4096."""
        return self._sector_size

    @property
    def path(self) -> str:
        """The path of the image below, for errors."""
        return self.base.info.path

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the disk ends. Raises as the disk below."""
        if length < 0:
            raise ValueError("the length is not negative")
        buffer = bytearray(max(0, min(length, self._size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes filled: fewer only at the disk's end."""
        if offset < 0:
            raise ValueError("the offset is not negative")
        end = min(offset + len(buffer), self._size)
        if end <= offset:
            return 0
        if not self._slots:
            return self.base.read_into(offset, buffer)
        for start, stop, written in self._runs(offset, end):
            part = buffer[start - offset : stop - offset]
            if written:
                self._read_spool(start, part)
            else:
                self.base.read_into(start, part)
        return end - offset

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``; nothing reaches the disk below.

        Raises :class:`ValueError` outside the disk, :class:`OutputError` ``spool-full`` where the host can't take it,
        and what reading the disk below raises, for a page that is written in part.
        """
        view = memoryview(data).cast("B")
        if offset < 0 or offset + len(view) > self._size:
            raise ValueError("the range lies outside the disk")
        while view:
            slot, within = divmod(offset, SLOT)
            length = min(SLOT - within, len(view))
            self._write_slot(slot, within, view[:length])
            offset += length
            view = view[length:]

    def written(self) -> Iterator[tuple[int, int]]:
        """Ranges ``(offset, length)`` of whole pages that were written to, in order and apart."""
        yield from merged((start, stop - start) for start, stop in self._written_pages())

    def changed(self) -> Iterator[tuple[int, int]]:
        """As :meth:`vhdtool.disk.changes.Changes.changed`: what was written and is not what the disk had before.

        Each MiB is compared once and then known until it is written again, so the answer stays the same while a
        commit in place changes the disk below.
        """
        sector = self._sector_size
        yield from merged(
            (slot * SLOT + start * sector, (stop - start) * sector)
            for slot in sorted(self._written)
            for start, stop in bit_runs(self._difference(slot), SLOT // sector)
        )

    def _written_pages(self) -> Iterator[tuple[int, int]]:
        for slot in sorted(self._written):
            yield from self._pages_of(slot)

    def _pages_of(self, slot: int) -> Iterator[tuple[int, int]]:
        for start, stop in bit_runs(self._written[slot], _PAGES):
            yield slot * SLOT + start * PAGE, min(slot * SLOT + stop * PAGE, self._size)

    def _difference(self, slot: int) -> int:
        known = self._differing.get(slot)
        if known is not None:
            return known
        mask = 0
        for first, last in self._pages_of(slot):
            for start in range(first, last, COMPARED):
                stop = min(start + COMPARED, last)
                new = bytearray(stop - start)
                self._read_spool(start, memoryview(new))
                old = self.base.read_at(start, stop - start)
                mask |= differing_sectors(new, old, self._sector_size) << (start - slot * SLOT) // self._sector_size
        self._differing[slot] = mask
        return mask

    def _runs(self, offset: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a range into pieces that are in the spool and pieces that are not."""
        while offset < end:
            slot, within = divmod(offset, SLOT)
            base = slot * SLOT
            stop = min(end, base + SLOT)
            mask = self._written.get(slot, 0)
            if mask in (0, _ALL):
                yield offset, stop, mask == _ALL
            else:
                first, last = within // PAGE, -(-(stop - base) // PAGE)
                position = offset
                for _, run_stop, written in _all_runs(mask, first, last):
                    until = min(base + run_stop * PAGE, stop)
                    yield position, until, written
                    position = until
            offset = stop

    def _write_slot(self, slot: int, within: int, data: memoryview) -> None:
        mask = self._written.get(slot, 0)
        self._differing.pop(slot, None)
        end = within + len(data)
        for page, cut in ((within // PAGE, within % PAGE), ((end - 1) // PAGE, end % PAGE)):
            if cut and not mask >> page & 1:
                self._fill_page(slot, page)
                mask |= 1 << page
        place = self._place(slot)
        self._write_spool(place + within, data)
        first, last = within // PAGE, -(-end // PAGE)
        self._written[slot] = mask | ((1 << last) - (1 << first))

    def _fill_page(self, slot: int, page: int) -> None:
        """Bring a page that will be written in part from the disk below."""
        before = self.base.read_at(slot * SLOT + page * PAGE, PAGE)
        self._write_spool(self._place(slot) + page * PAGE, memoryview(before))

    def _place(self, slot: int) -> int:
        return self._slots.setdefault(slot, len(self._slots)) * SLOT

    def _read_spool(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from the spool; it may run over several slots."""
        assert self._spool is not None  # noqa: S101  # a page is marked written only after the spool took it
        while buffer:
            slot, within = divmod(offset, SLOT)
            length = min(SLOT - within, len(buffer))
            place = self._slots[slot] * SLOT + within
            try:
                got = read_part(self._spool, buffer[:length], place)
            except OSError as error:
                raise _spool_lost(f"can't be read: {error.strerror}") from error
            if got == 0:
                raise _spool_lost("was cut off")
            offset += got
            buffer = buffer[got:]

    def _write_spool(self, place: int, data: memoryview) -> None:
        try:
            if self._spool is None:
                self._spool = _unnamed_file(self._folder)
            while data:
                done = write_part(self._spool, data, place)
                place += done
                data = data[done:]
        except OSError as error:
            raise OutputError(
                "spool-full",
                f"the spool file of the changes can't be written: {error.strerror}",
                path=self._folder or tempfile.gettempdir(),
                hint=_SPOOL_HINT,
            ) from error


_SPOOL_HINT = "Make room there, or name another folder for temporary files (TMPDIR)."


def _spool_lost(what: str) -> OutputError:
    return OutputError("spool-lost", f"the spool file of the changes {what}", hint=_SPOOL_HINT)


def _unnamed_file(folder: str | None) -> int:
    """A temporary file that no name leads to, gone when it is closed."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())


def _all_runs(mask: int, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
    """Runs ``(first, past the last, set)`` of equal bits."""
    position = first
    while position < last:
        value = mask >> position & 1
        rest = (~mask if value else mask) >> position
        length = (rest & -rest).bit_length() - 1 if rest else last - position
        stop = min(position + length, last)
        yield position, stop, bool(value)
        position = stop


def bit_runs(mask: int, count: int) -> Iterator[tuple[int, int]]:
    """Runs ``(first, past the last)`` of the bits of ``mask`` that are set, below ``count``."""
    return ((start, stop) for start, stop, value in _all_runs(mask, 0, count) if value)


def differing_sectors(new: bytes | bytearray, old: bytes | bytearray, sector: int) -> int:
    """A bit for each sector in which two runs of bytes of one length differ, the first sector's the lowest."""
    if new == old:
        return 0
    mask = 0
    one, other = memoryview(new), memoryview(old)
    for number, place in enumerate(range(0, len(new), sector)):
        if one[place : place + sector] != other[place : place + sector]:
            mask |= 1 << number
    return mask


def merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges ``(offset, length)``, given in order, that touch or overlap."""
    kept: tuple[int, int] | None = None
    for offset, length in ranges:
        if kept is not None and offset <= kept[0] + kept[1]:
            kept = kept[0], max(kept[1], offset + length - kept[0])
            continue
        if kept is not None:
            yield kept
        kept = offset, length
    if kept is not None:
        yield kept
