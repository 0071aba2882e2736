"""A fixed VHD or a raw image as a file of the host: what holds before it is changed in place.

Neither has any indirection: byte n of the disk is byte n of the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vhdtool.disk.changes import Changes
from vhdtool.disk.in_place_errors import needs_recovery
from vhdtool.disk.vhd import VhdLayer
from vhdtool.disk.vhd_fitness import refuse_unfit_vhd
from vhdtool.errors import InputError, RefusedError

PIECE = 1 << 20


def refuse_unfit_file(changes: Changes) -> str:
    """Return the path of the file itself, symbolic links followed.

    Raises :class:`RefusedError` ``image-needs-recovery``, ``not-a-regular-file``, ``image-hard-linked``, and as
    :func:`refuse_unfit_vhd`; :class:`InputError` ``cannot-open``.
    """
    layer = changes.base.layers[0]
    path = layer.info.path
    if layer.info.log is not None:
        raise needs_recovery("a change to the image was interrupted", path)
    if isinstance(layer, VhdLayer):
        refuse_unfit_vhd(layer)
    real = os.path.realpath(path)
    try:
        facts = Path(real).stat()
    except OSError as error:
        raise InputError("cannot-open", f"can't open the file: {error.strerror}", path=path) from error
    if not stat.S_ISREG(facts.st_mode):
        raise RefusedError(
            "not-a-regular-file",
            "only a regular file can be changed so that a power cut does no harm",
            path=path,
            hint="Write to another place: --output.",
        )
    if facts.st_nlink > 1:
        raise RefusedError(
            "image-hard-linked",
            "the image has several names (hard links), and only this one would lead to the changed disk",
            path=path,
            expected="1 name",
            found=facts.st_nlink,
            hint="Remove the other names, or make a copy of the image and change that; or use --output.",
        )
    return real


def changed_pieces(changes: Changes, gap: int = 0) -> Iterator[tuple[int, bytes]]:
    """What changes, as offset and at most 1 MiB of bytes; ranges that are at most ``gap`` bytes apart become one."""
    for start, end in joined(changes, gap):
        offset = start
        while offset < end:
            data = changes.read_at(offset, min(PIECE, end - offset))
            yield offset, data
            offset += len(data)


def changed_size(changes: Changes, gap: int = 0) -> int:
    """The bytes that :func:`changed_pieces` gives."""
    return sum(end - start for start, end in joined(changes, gap))


def joined(changes: Changes, gap: int) -> Iterator[tuple[int, int]]:
    """Start and end of each changed range; ranges that are at most ``gap`` bytes apart become one."""
    kept: tuple[int, int] | None = None
    for offset, length in changes.changed():
        if kept is not None and offset - kept[1] <= gap:
            kept = kept[0], offset + length
            continue
        if kept is not None:
            yield kept
        kept = offset, offset + length
    if kept is not None:
        yield kept
