"""In place, a dynamic or differencing VHD: at every moment the file holds the old disk or the new one.

The format has no log. What it has is one sector, the first of the dynamic header, with both the place of the block
allocation table and the header's checksum. Everything else is written where nothing is in use, and that one sector
decides. A sector of 512 bytes is taken to be written whole or not at all, as drives promise.

The order; each line ends with a flush. ``E`` is where the footer was.

1. a footer at the coming end of the file: from now on the file always ends with one (libvhdi, 7-Zip and dissect find
   their footer there; QEMU and this program are content with the copy in the first sector);
2. the record before it (:mod:`vhdtool.disk.vhd_move`), by which ``recover`` knows what to do;
3. from ``E`` on, over the old footer: blocks that the file had not, then whole copies of those that it had, then a
   whole table;
4. the header's first sector names the new table: **the commit**;
5. the copies are copied back to the blocks' old places, which nothing uses now, and the table as well;
6. the header's first sector names the old place of the table again;
7. the footer behind the last block in use, at ``E`` or behind the new blocks;
8. the file is cut off after it.

So a file grows by new blocks and nothing else. Before 4 a failure is undone: footer to ``E``, cut off. A touched
block ends up with all bits of its bitmap set, whole blocks having no reader that gets them wrong. Footer and identity
stay as they are: the time in the footer is that of the image's creation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from vhdtool.bytesource import ByteSource, BytesSource, read_exactly
from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.changes import Changes
from vhdtool.disk.commit import Candidate, Target, Written
from vhdtool.disk.counted_file import PIECE, CountedFile
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.in_place_errors import UNDO, room_stays, unfinished
from vhdtool.disk.patched_source import Patch, PatchedSource
from vhdtool.disk.room import refuse_no_room
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhd_bat import VhdBat
from vhdtool.disk.vhd_fitness import refuse_overlap, refuse_unfit_vhd, touched_places
from vhdtool.disk.vhd_flip import BlockShape, end_file, fold_back, point_header, table_pieces
from vhdtool.disk.vhd_header import DynamicHeader
from vhdtool.disk.vhd_move import BLOCK_LIMIT, MovedBlocks, MoveRecord, encode_record, record_length, sectors
from vhdtool.disk.vhd_sources import BlockSource, HomeTable
from vhdtool.errors import OutputError, RefusedError, VhdtoolError
from vhdtool.progress import Progress

SPARE_TABLE_LIMIT = 4 << 20  # bytes of entries for blocks that the disk has not; more is no honest table


class VhdInPlaceCommit:
    """A :class:`vhdtool.disk.commit.Commit` in place for a dynamic or differencing VHD."""

    def __init__(self, changes: Changes, target: Target, store: HostStore = OS_STORE) -> None:
        layer = changes.base.layers[0]
        if not isinstance(layer, VhdLayer) or layer.header is None or layer.bat is None:
            raise ValueError("the image is no dynamic VHD")
        self._changes = changes
        self._fold = target.fold
        self._store = store
        self._layer = layer
        self._header: DynamicHeader = layer.header
        self._bat: VhdBat = layer.bat
        self._shape = BlockShape(layer.info.virtual_size, layer.header.block_size)
        self._file: CountedFile | None = None
        self._record: MoveRecord | None = None

    @property
    def path(self) -> str:
        """The image."""
        return self._layer.info.path

    def prepare(self, progress: Progress) -> Candidate:
        """As :meth:`Commit.prepare`: nothing is written.

        Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``, ``vhd-saved-state``,
        ``vhd-bat-too-large``, ``vhd-too-many-blocks``; :class:`DamagedError` ``vhd-block-overlap``,
        ``vhd-block-outside-file``; :class:`OutputError` ``no-room``, ``vhd-too-large``.
        """
        del progress
        refuse_unfit_vhd(self._layer)
        self._record = record = self._plan()
        refuse_overlap(self._layer, touched_places(self._layer, record.blocks.numbers, self._shape), self._shape)
        refuse_no_room(self._store, self.path, record.file_size - self._layer.info.file_size)
        self._file = CountedFile(self._store.open(self.path))
        files: list[tuple[str, ByteSource]] = [(self.path, self._would_be(record))]
        files += [(file.path, file) for file in self._changes.base.files[1:]]
        return Candidate("vhd", files)

    def finish(self, progress: Progress) -> Written:
        """As :meth:`Commit.finish`. Raises :class:`OutputError` ``cannot-write``, :class:`ChangedError`."""
        file, record = self._file, self._record
        if file is None or record is None:
            raise ValueError("a commit is prepared before it is finished")
        before = self._layer.info.file_size
        end = before
        if len(record.blocks):
            footer = read_exactly(file, 0, fmt.FOOTER_SIZE, path=self.path, what="the footer")
            self._write_aside(file, record, footer, progress)
            try:
                point_header(file, record.header_offset, record.moved_table)
                fold_back(file, record, self._shape, progress)
                end_file(file, footer, record.new_end)
            except VhdtoolError as error:
                raise unfinished(error, self.path) from error
            end = record.new_end + fmt.FOOTER_SIZE
        self.abandon()
        return Written(self.path, len(record.blocks), file.written, before, end, UNDO)

    def abandon(self) -> None:
        """As :meth:`Commit.abandon`."""
        if self._file is not None:
            self._file.close()

    def _plan(self) -> MoveRecord:
        """Give each touched block its places: new blocks first, then copies, the table, the record, the footer."""
        shape, old_end = self._shape, sectors(self._layer.footers.data_end)
        touched = list(islice(_touched(self._changes, shape.block_size), BLOCK_LIMIT + 1))
        if len(touched) > BLOCK_LIMIT:
            raise RefusedError(
                "vhd-too-many-blocks",
                "the change reaches more blocks than one change in place may",
                path=self.path,
                expected=f"at most {BLOCK_LIMIT}",
                hint="Write to another place: --child or --output.",
            )
        fresh = sum(self._bat.place(number) is None for number in touched)
        new_place, copy_place = old_end, old_end + fresh * shape.stored_size
        blocks = MovedBlocks()
        for number in touched:
            place = self._bat.place(number)
            if place is None:
                blocks.add(number, new_place, new_place)
                new_place += shape.stored_size
            else:
                blocks.add(number, place if self._fold else copy_place, copy_place)
                copy_place += shape.stored_size
        table_room = sectors(self._header.table_entries * fmt.BAT_ENTRY.sizeof())
        if table_room > sectors(self._bat.length) + SPARE_TABLE_LIMIT:
            raise RefusedError(
                "vhd-bat-too-large",
                "the block allocation table has far more entries than the disk has blocks",
                path=self.path,
                offset=self._header.offset,
                expected=f"about {self._bat.count}",
                found=self._header.table_entries,
                hint="Convert it to a new image: vhdtool disk convert IMAGE NEW.vhdx",
            )
        if copy_place // fmt.SECTOR_SIZE >= fmt.BAT_HOLE:
            raise OutputError(
                "vhd-too-large",
                "the file would grow beyond what a VHD's table can name",
                path=self.path,
                expected=f"at most {fmt.BAT_HOLE * fmt.SECTOR_SIZE} bytes",
                found=f"{copy_place} bytes",
                hint="Convert it to a VHDX: vhdtool disk convert IMAGE NEW.vhdx",
            )
        return MoveRecord(
            unique_id=self._layer.footers.footer.unique_id,
            file_size=copy_place + table_room + record_length(len(blocks)) + fmt.FOOTER_SIZE,
            old_end=old_end,
            new_end=new_place if self._fold else copy_place,
            header_offset=self._header.offset,
            home_table=self._bat.offset,
            moved_table=copy_place,
            table_size=self._bat.length,
            blocks=blocks,
        )

    def _write_aside(self, file: CountedFile, record: MoveRecord, footer: bytes, progress: Progress) -> None:
        """Steps 1 to 3; undone where they fail."""
        footers = self._layer.footers
        old = read_exactly(file, footers.tail.offset, footers.tail.size, path=self.path, what="the footer")
        progress.start("write blocks", len(record.blocks) * self._shape.stored_size)
        try:
            file.write_at(record.file_size - fmt.FOOTER_SIZE, footer)
            file.flush()
            file.write_at(record.offset, encode_record(record))
            file.flush()
            self._write_blocks(file, record, progress)
            self._write_table(file, record)
            file.flush()
        except BaseException as error:
            try:
                end_file(file, old, footers.tail.offset)
            except VhdtoolError as second:
                raise room_stays(error, second, self.path) from error
            raise
        finally:
            progress.finish()

    def _write_blocks(self, file: CountedFile, record: MoveRecord, progress: Progress) -> None:
        for number, _, place in record.blocks:
            source = BlockSource(self._changes, number, self._shape, self._shape.stored_size)
            for start in range(0, source.size, PIECE):
                piece = source.read_at(start, PIECE)
                file.write_at(place + start, piece)
                progress.advance(len(piece))

    def _write_table(self, file: CountedFile, record: MoveRecord) -> None:
        end = record.moved_table
        for start, entries in table_pieces(file, record.home_table, record.table_size, record.blocks, home=False):
            file.write_at(record.moved_table + start, entries)
            end = record.moved_table + start + len(entries)
        file.write_at(end, b"\xff" * (record.offset - end))

    def _would_be(self, record: MoveRecord) -> PatchedSource:
        """The file as the last step leaves it."""
        base = self._changes.base.files[0]
        if not len(record.blocks):
            return PatchedSource(base, base.size, ())
        end = record.new_end
        patches = [Patch(record.home_table, HomeTable(base, record)), Patch(end, BytesSource(base.read_at(0, 512)))]
        for number, home, place in record.blocks:
            whole = home == place
            size = self._shape.stored_size if whole else self._shape.used_size(number)
            patches.append(Patch(home, BlockSource(self._changes, number, self._shape, size)))
        return PatchedSource(base, end + fmt.FOOTER_SIZE, patches)


def _touched(changes: Changes, block_size: int) -> Iterator[int]:
    """The numbers of the blocks that changes reach, rising."""
    done = 0
    for offset, length in changes.changed():
        first = max(done, offset // block_size)
        done = max(done, -(-(offset + length) // block_size))
        yield from range(first, done)
