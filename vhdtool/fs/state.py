"""Is a volume at rest: dirty bit, $LogFile, hibernation. Read from the bytes; no library is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import BlockDevice
from vhdtool.errors import NotFoundError, UnsupportedError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_layout import STRIDE, undo_fixups
from vhdtool.fs.ntfs_records import LOGFILE_RECORD
from vhdtool.volume.partitions import Volume

LogState = Literal["empty", "clean", "unclean", "2.0", "damaged"]
HiberfilState = Literal["absent", "unused", "live", "short", "resuming", "resumed", "unreadable"]

VOLUME_IS_DIRTY = 0x0001
HIBERFIL = "/hiberfil.sys"
HIBERFIL_MIN = 4096
HIBERFIL_MARKS: dict[bytes, HiberfilState] = {
    b"hibr": "live",
    b"HIBR": "live",
    b"RSTR": "resuming",
    b"wake": "resumed",
}

# Linux kernel, fs/ntfs3/fslog.c (struct RESTART_HDR, struct RESTART_AREA).
RESTART_PAGE = c.Struct(
    "signature" / c.Bytes(4),
    "fixup_offset" / c.Int16ul,
    "fixup_count" / c.Int16ul,
    "check_lsn" / c.Int64ul,
    "system_page_size" / c.Int32ul,
    "log_page_size" / c.Int32ul,
    "restart_offset" / c.Int16ul,
    "minor_version" / c.Int16sl,
    "major_version" / c.Int16sl,
)
RESTART_AREA = c.Struct(
    "current_lsn" / c.Int64ul,
    "log_clients" / c.Int16ul,
    "free_clients" / c.Int16ul,
    "clients_in_use" / c.Int16ul,
    "flags" / c.Int16ul,
)
CLEAN_DISMOUNT = 0x0002
NO_CLIENT = 0xFFFF


@dataclass(frozen=True, slots=True)
class VolumeState:
    """``None`` where it does not apply or can't be told. ``log`` is the state of $LogFile.

    ``log``: empty (wiped), clean, unclean (changes are waiting), 2.0 (in use by Windows 8 or later: changes may
    be waiting), damaged.
    """

    dirty: bool | None
    hibernated: bool | None
    encrypted: bool
    log: LogState | None = None


def read_state(device: BlockDevice, volume: Volume, fs: GuestFilesystem | None) -> VolumeState:
    """Read the state of a volume; ``fs`` is its opened file system, ``None`` where it can't be opened.

    ``dirty`` tells NTFS's dirty bit or a $LogFile that is not clean; with a log of version 2.0, which Windows turns
    back to 1.1 when it dismounts, it can't be told. Raises what reading raises.
    """
    encrypted = volume.encryption is not None
    if not isinstance(fs, NtfsFilesystem):
        return VolumeState(None, None, encrypted)
    log = log_state(fs)
    dirty: bool | None = bool(fs.volume_flags & VOLUME_IS_DIRTY) or log in ("unclean", "damaged")
    if not dirty and log == "2.0":
        dirty = None
    return VolumeState(dirty, is_hibernated(fs), encrypted, log)


def log_state(fs: NtfsFilesystem) -> LogState:
    """Return the state of $LogFile, told by the newer of its two restart pages; one that is torn is damage."""
    stream = fs.mft.record(LOGFILE_RECORD).stream()
    if stream is None:
        return "damaged"
    first = _restart_page(stream, 0)
    if first is None:
        head = stream.read_at(0, 4096)
        return "empty" if head == b"\xff" * len(head) else "damaged"
    second = _restart_page(stream, first.page.system_page_size) if first.sound else None
    if not first.sound or (second is not None and not second.sound):
        return "damaged"
    newer = first if second is None else max(first, second, key=_lsn)
    if newer.page.major_version >= 2:
        return "2.0"
    if newer.page.major_version < 1:
        return "damaged"
    clean = newer.area.flags & CLEAN_DISMOUNT or newer.area.clients_in_use == NO_CLIENT
    return "clean" if clean else "unclean"


def is_hibernated(fs: GuestFilesystem) -> bool | None:
    """Whether the system on this volume is hibernated, by the first bytes of hiberfil.sys.

    A file too short to hold a header is taken for hibernated, as ntfs-3g does. ``None`` where it can't be read.
    """
    state = hiberfil_state(fs)
    return None if state == "unreadable" else state in ("live", "short")


def hiberfil_state(fs: GuestFilesystem) -> HiberfilState:
    """Return what the first bytes of hiberfil.sys say.

    Windows writes ``hibr`` (or ``HIBR``) before it powers off and ``RSTR`` while and ``wake`` after it resumes
    (ntfs-3g, libntfs-3g/volume.c, ntfs_volume_check_hiberfile); a file that begins otherwise was never used.
    """
    try:
        hiberfil = fs.open(HIBERFIL)
    except NotFoundError:
        return "absent"
    except UnsupportedError:
        return "unreadable"
    if hiberfil.size < HIBERFIL_MIN:
        return "short"
    return HIBERFIL_MARKS.get(hiberfil.read_at(0, 4), "unused")


@dataclass(frozen=True, slots=True)
class _Restart:
    page: Any
    area: Any  # None where the page is not sound

    @property
    def sound(self) -> bool:
        return self.area is not None


def _lsn(restart: _Restart) -> int:
    return int(restart.area.current_lsn)


def _restart_page(stream: ByteSource, offset: int) -> _Restart | None:
    data = stream.read_at(offset, 4096)
    if len(data) < RESTART_PAGE.sizeof() or data[:4] not in (b"RSTR", b"CHKD"):
        return None
    page = RESTART_PAGE.parse(data)
    size, end = page.system_page_size, page.restart_offset + RESTART_AREA.sizeof()
    if size not in (4096, 8192, 16384, 32768, 65536) or end > STRIDE - 2:
        return _Restart(page, None)
    try:
        whole = undo_fixups(data if size == len(data) else stream.read_at(offset, size))
    except ValueError:
        return _Restart(page, None)
    return _Restart(page, RESTART_AREA.parse(whole[page.restart_offset :]))
