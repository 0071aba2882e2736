"""One image file as a layer, whatever its format."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.device import FileDevice, Layer
from vhdtool.disk.journal_found import with_journal
from vhdtool.disk.left_over_footer import left_over_footer
from vhdtool.disk.raw import open_raw
from vhdtool.disk.vhd import looks_like_vhd, open_vhd
from vhdtool.disk.vhdx import looks_like_vhdx, open_vhdx
from vhdtool.errors import InputError


@dataclass(frozen=True, slots=True)
class OpenedLayer:
    """A layer and the file that it reads. Closing the layer closes the file."""

    layer: Layer
    file: FileDevice


def open_layer(file: FileDevice) -> OpenedLayer:
    """Open a file by what it holds; its name does not matter. Where that fails, ``file`` is closed.

    A fixed VHD or raw image with a pending journal beside it is read as the journal leaves it. Raises what
    :func:`open_vhdx`, :func:`open_vhd`, :func:`open_raw` and :func:`with_journal` raise.
    """
    try:
        if looks_like_vhdx(file):
            return OpenedLayer(open_vhdx(file), file)
        file, journal = with_journal(file)
        if looks_like_vhd(file):
            if (volume_end := left_over_footer(file)) is not None:
                return OpenedLayer(open_raw(file, left_over=volume_end, journal=journal), file)
            return OpenedLayer(open_vhd(file, journal=journal), file)
        return OpenedLayer(open_raw(file, journal=journal), file)
    except BaseException:
        file.close()
        raise


def refuse_no_file(path: str) -> None:
    """Refuse what is neither a file nor a block device before it is opened: opening a FIFO would wait for ever.

    Raises :class:`InputError` ``not-a-disk``.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return  # opening it tells why it can't be opened
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            "not-a-disk",
            "this is neither a file nor a block device",
            path=path,
            hint="Name a disk image: .vhdx, .avhdx, .vhd, .avhd or raw.",
        )
