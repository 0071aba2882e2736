"""Is a VHD in a state in which it may be changed in place?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import chain

from vhdtool.disk import vhd_format as fmt
from vhdtool.disk.in_place_errors import damaged, needs_recovery
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhd_flip import BlockShape
from vhdtool.errors import DamagedError, RefusedError

_STRUCTURE = -1


def refuse_unfit_vhd(layer: VhdLayer) -> None:
    """Hold that nothing in a VHD's structures is damaged, unfinished or bound to a saved machine.

    Readers choose differently between damaged copies (QEMU believes the first footer, libvhdi the last, 7-Zip wants
    both), so a change to such a file can't be one that all of them see at once.

    Raises :class:`RefusedError` ``image-needs-recovery``, ``image-damaged``, ``vhd-saved-state``.
    """
    footers, path = layer.footers, layer.info.path
    if layer.unfinished is not None:
        raise needs_recovery("a change to the image was interrupted", path, layer.footers.data_end)
    if not footers.trusted:
        raise damaged("no footer of the image has a right checksum", path, footers.tail.offset)
    if not footers.tail.valid:
        raise needs_recovery("the footer at the end of the image is damaged", path, footers.tail.offset)
    if footers.footer.saved_state:
        raise RefusedError(
            "vhd-saved-state",
            "the machine that the image belongs to was saved, not shut down",
            path=path,
            offset=footers.tail.offset,
            hint="Start the machine and shut it down, or delete its saved state; then try again.",
        )
    if layer.header is None:
        return
    head = footers.head
    if head is None or not head.valid:
        raise needs_recovery("the copy of the footer at the image's start is damaged", path, 0)
    if head.footer != footers.footer:
        raise damaged("the footer and its copy at the image's start differ", path, 0)
    if not layer.header.checksum_right:
        raise damaged("the dynamic disk header has a wrong checksum", path, layer.header.offset)
    if layer.header.offset % fmt.SECTOR_SIZE:
        raise damaged("the dynamic disk header does not start with a sector", path, layer.header.offset)


def touched_places(layer: VhdLayer, numbers: Iterable[int], shape: BlockShape) -> list[tuple[int, int, int | None]]:
    """Start, end and number of those of the blocks that are in the file.

    Raises :class:`DamagedError` ``vhd-block-outside-file``, ``vhd-block-overlap``.
    """
    places: list[tuple[int, int, int | None]] = []
    for number in numbers:
        for run in layer.resolve(number * shape.block_size, 1):
            del run  # asked for only because that holds the block against the file and its structures
        place = layer.bat.place(number) if layer.bat is not None else None
        if place is not None:
            places.append((place, place + shape.used_size(number), number))
    return places


def refuse_overlap(layer: VhdLayer, places: Iterable[tuple[int, int, int | None]], shape: BlockShape) -> None:
    """Hold that no block and no structure lies in places that will be written to.

    ``places``: start, end and, where a block lies there rightly, its number.

    Raises :class:`DamagedError` ``vhd-block-overlap``.
    """
    if layer.bat is None or layer.header is None:
        return
    wanted = sorted(places, key=lambda place: place[:2])
    starts = [start for start, _, _ in wanted]
    used: list[tuple[int, int, int]] = [(start, end, _STRUCTURE) for start, end in layer.reserved_ranges]
    used += [(each.data_offset, each.data_offset + each.data_length, _STRUCTURE) for each in layer.header.locators]
    blocks = ((place, place + shape.used_size(number), number) for number, place in layer.bat.entries())
    for start, end, owner in chain(used, blocks):
        index = bisect_left(starts, end) - 1
        while index >= 0 and wanted[index][1] > start:
            if wanted[index][2] != owner:
                what = "a structure" if owner == _STRUCTURE else f"block {owner}"
                raise DamagedError(
                    "vhd-block-overlap",
                    f"{what} lies in the place of another block",
                    path=layer.info.path,
                    offset=max(start, wanted[index][0]),
                    hint=fmt.RESTORE_HINT,
                )
            index -= 1
