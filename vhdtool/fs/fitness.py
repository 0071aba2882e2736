"""May this volume, and what this path names, be written? Every check comes before anything opens for writing.

Each refusal has a code of its own and a hint that names the way out. What is not refused, and why:

- A backup boot sector that is missing or differs: Windows and ntfs-3g mount by the first one, and no write goes near
  either (:mod:`vhdtool.fs.ntfs_check` holds a change to that).
- An attribute list, where data is overwritten in place: our reader joins the pieces and holds them against each
  other, and no piece changes. What changes the record itself (``structural``) is refused.
- A hard link: :func:`vhdtool.fs.in_place.overwrite` refuses it, because the other names would change with it; a writer
  that removes the name and makes a new file does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import BlockDevice
from vhdtool.errors import DamagedError, NotFoundError, RefusedError, UsageError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.ntfs import (
    ATTRIBUTE_COMPRESSED,
    ATTRIBUTE_ENCRYPTED,
    ATTRIBUTE_SPARSE,
    NtfsFilesystem,
    Place,
)
from vhdtool.fs.ntfs_layout import same_record
from vhdtool.fs.ntfs_records import (
    ATTRIBUTE_LIST,
    BITMAP_RECORD,
    COMPRESSED,
    DATA,
    ENCRYPTED,
    FIRST_USER_RECORD,
    MFT_RECORD,
    MIRROR_RECORD,
    SPARSE,
)
from vhdtool.fs.paths import split_path
from vhdtool.fs.read import ENCRYPTION_HINTS
from vhdtool.fs.reparse import CLOUD, CLOUD_MASK, WOF, Reparse, link_target
from vhdtool.fs.state import VOLUME_IS_DIRTY, hiberfil_state, log_state
from vhdtool.volume.partitions import Volume

CHKDSK_UNDERWAY = 0x4000  # of $VOLUME_INFORMATION, beside the dirty bit
SUPPORTED_VERSION = (3, 1)
WIM, DEDUP = 0x80000008, 0x80000013  # reparse tags, MS-FSCC 2.1.2.1
MIRRORED = 4  # records that $MFTMirr has at least: as many as a cluster holds, where that is more
HIVE_LOGS = (".LOG", ".LOG1", ".LOG2")
_CHUNK = 1 << 20

_SHUT_DOWN = (
    "Start the guest and shut it down in full: 'shutdown /s /f /t 0' (the Start menu's Shut down may hibernate: "
    "Fast Startup)."
)
_CHKDSK = "Start the guest, or attach the disk to a Windows machine, run 'chkdsk /f' on this volume and shut down."
_FULL = "Delete something in the guest, or make the volume larger, and try again."


def refuse_unfit_volume(device: BlockDevice, volume: Volume, fs: GuestFilesystem | None, *, room: int = 0) -> None:
    """Refuse a volume that must not be written now.

    Args:
        device: the volume's bytes (``volume_device``).
        volume: its row of the partition table.
        fs: its opened file system, as :func:`vhdtool.fs.read.open_filesystem` gave it; ``None`` where it can't be
            opened because it is encrypted or a part of something else.
        room: bytes that the volume must have free for what is to come; 0 leaves $Bitmap unread.

    Raises:
        RefusedError: ``encrypted``, ``container-member``, ``filesystem-not-writable``, ``partition-cut-off``,
            ``volume-cut-off``, ``ntfs-version``, ``volume-dirty``, ``chkdsk-underway``, ``log-unclean``,
            ``log-version``, ``log-damaged``, ``mft-mirror-differs``, ``hibernated``, ``hibernation-resumed``,
            ``hibernation-unknown``, ``volume-full``.
        DamagedError: ``filesystem-damaged``, ``truncated``, where what is asked for can't be read.

    """
    where = f"volume {volume.index}"
    _refuse_kind(volume, where)
    if not isinstance(fs, NtfsFilesystem):
        raise RefusedError(
            "filesystem-not-writable",
            "files can be changed on NTFS volumes only",
            path=where,
            found=volume.filesystem or "no known file system",
            hint="Make the change in the running guest.",
        )
    _refuse_size(device, volume, fs, where)
    _refuse_version(fs, where)
    _refuse_dirty(fs, where)
    _refuse_log(fs, where)
    _refuse_mirror(device, fs, where)
    _refuse_hibernation(fs, where)
    if room > 0:
        _refuse_full(fs, room, where)


def refuse_unfit_path(fs: NtfsFilesystem, path: str, *, structural: bool = False) -> None:
    """Refuse a path that leads through, or to, what must not be written. What is not there yet is fit.

    ``structural`` tells that the record of the file will change (replaced, resized, removed), not only its bytes.

    Raises:
        RefusedError: ``reparse-on-path``, ``name-ambiguous``, ``file-system-file``, ``directory-encrypted``;
            ``file-wof-compressed``, ``file-in-wim``, ``file-deduplicated``, ``file-in-cloud``, ``file-reparse``,
            ``file-compressed``, ``file-sparse``, ``file-encrypted``, ``file-attribute-list``.
        NotFoundError: ``not-a-directory``, where a file stands in the path.
        UsageError: ``path-with-dots``.
        DamagedError: ``filesystem-damaged``.

    """
    places, complete = _walk(fs, path)
    for place in places:
        if place.record.segment < FIRST_USER_RECORD and place.parts:
            raise RefusedError(
                "file-system-file",
                "this is one of the file system's own files",
                path=place.path,
                hint="Only Windows itself changes these.",
            )
        reparse = fs.reparse_of(place)
        if reparse is not None:
            raise _reparse_refusal(reparse, place)
    last = places[-1]
    if last.record.is_directory:
        _refuse_directory(fs, last, complete=complete)
    else:
        _refuse_storage(fs, last)
    if structural and complete and any(found.type == ATTRIBUTE_LIST for found in last.record.attributes):
        raise RefusedError(
            "file-attribute-list",
            "the file's attributes fill more than one MFT record; replacing it offline is not safe",
            path=last.path,
            hint="Replace it in the running guest, or write it under another name.",
        )


def refuse_unfit_hive(fs: NtfsFilesystem, path: str, *, structural: bool = False) -> None:
    """Refuse a hive that must not be edited: the file itself, and each of its logs that is there.

    ``structural`` tells that the hive will get another size. Raises as :func:`refuse_unfit_path`, with the path of
    the file that is unfit.
    """
    refuse_unfit_path(fs, path, structural=structural)
    for ending in HIVE_LOGS:
        refuse_unfit_path(fs, path + ending)


def _refuse_kind(volume: Volume, where: str) -> None:
    if volume.encryption is not None:
        raise RefusedError(
            "encrypted",
            f"the volume is encrypted ({volume.encryption})",
            path=where,
            hint=ENCRYPTION_HINTS.get(volume.encryption, "Decrypt it first, with the tools of its own system."),
        )
    if volume.container is not None:
        raise RefusedError(
            "container-member",
            f"the volume is a part of something else ({volume.container})",
            path=where,
            hint="What it belongs to (a dynamic disk, a storage pool, a volume group) is changed in the guest only.",
        )


def _refuse_size(device: BlockDevice, volume: Volume, fs: NtfsFilesystem, where: str) -> None:
    if device.size < volume.size:
        raise RefusedError(
            "partition-cut-off",
            "the partition ends beyond the end of the disk",
            path=where,
            expected=f"{volume.size} bytes",
            found=f"{device.size} bytes",
            hint="The image is incomplete: copy it again from where it came from.",
        )
    if fs.mft.geometry.size > device.size:
        raise RefusedError(
            "volume-cut-off",
            "the file system is larger than its partition",
            path=where,
            expected=f"{fs.mft.geometry.size} bytes",
            found=f"{device.size} bytes",
            hint="Bring the partition back to its old size, or copy the image again from where it came from.",
        )


def _refuse_version(fs: NtfsFilesystem, where: str) -> None:
    if fs.version != SUPPORTED_VERSION:
        raise RefusedError(
            "ntfs-version",
            "the volume has another version of NTFS than any Windows since XP writes",
            path=where,
            expected="3.1",
            found="{}.{}".format(*fs.version),
            hint="A newer Windows that mounts the volume brings it up to version 3.1.",
        )


def _refuse_dirty(fs: NtfsFilesystem, where: str) -> None:
    flags = fs.volume_flags
    if flags & VOLUME_IS_DIRTY:
        raise RefusedError("volume-dirty", "the volume is marked for a check (dirty bit)", path=where, hint=_CHKDSK)
    if flags & CHKDSK_UNDERWAY:
        raise RefusedError("chkdsk-underway", "a check of the volume was not finished", path=where, hint=_CHKDSK)


def _refuse_log(fs: NtfsFilesystem, where: str) -> None:
    state = log_state(fs)
    if state == "unclean":
        raise RefusedError(
            "log-unclean",
            "changes are waiting in the volume's $LogFile: the guest was not shut down",
            path=where,
            hint=_SHUT_DOWN,
        )
    if state == "2.0":
        raise RefusedError(
            "log-version",
            "the volume was not dismounted: its $LogFile is in the form that Windows 8 and later use while it runs",
            path=where,
            expected="$LogFile version 1.1",
            found="version 2.0 or later",
            hint=_SHUT_DOWN,
        )
    if state == "damaged":
        raise RefusedError("log-damaged", "the volume's $LogFile can't be read", path=where, hint=_CHKDSK)


def _refuse_mirror(device: BlockDevice, fs: NtfsFilesystem, where: str) -> None:
    try:
        fault = _mirror_fault(device, fs)
    except DamagedError as error:
        fault = error.message
    if fault is not None:
        raise RefusedError(
            "mft-mirror-differs", f"$MFT and its copy $MFTMirr differ: {fault}", path=where, hint=_CHKDSK
        )


def _mirror_fault(device: BlockDevice, fs: NtfsFilesystem) -> str | None:
    """Hold the first records of $MFT against their copies in $MFTMirr, by what is in use of them."""
    geometry = fs.mft.geometry
    size = geometry.record_size
    table, mirror = fs.mft.record(MFT_RECORD).stream(), fs.mft.record(MIRROR_RECORD).stream()
    if table is None or mirror is None or mirror.size < MIRRORED * size:
        return f"there is no $MFTMirr of at least {MIRRORED} records"
    places = (("$MFT", geometry.mft_cluster, table), ("$MFTMirr", geometry.mirror_cluster, mirror))
    for name, cluster, stream in places:
        if device.read_at(cluster * geometry.cluster_size, size) != stream.read_at(0, size):
            return f"{name} lies elsewhere than the boot sector says"
    for number in range(min(max(MIRRORED, geometry.cluster_size // size), mirror.size // size)):
        if not same_record(table.read_at(number * size, size), mirror.read_at(number * size, size)):
            return f"record {number} differs"
    return None


def _refuse_hibernation(fs: NtfsFilesystem, where: str) -> None:
    state = hiberfil_state(fs)
    off = " Turning hibernation off there ('powercfg /h off') removes the file."
    if state in ("live", "short", "resuming"):
        raise RefusedError(
            "hibernated",
            "the guest is hibernated: it would go on with what it remembers of the volume",
            path=where,
            found="hiberfil.sys too short to tell" if state == "short" else f"hiberfil.sys in state '{state}'",
            hint=_SHUT_DOWN + off,
        )
    if state == "resumed":
        raise RefusedError(
            "hibernation-resumed",
            "the guest was resumed from hibernation and not restarted since, as far as hiberfil.sys tells",
            path=where,
            hint=_SHUT_DOWN + off,
        )
    if state == "unreadable":
        raise RefusedError(
            "hibernation-unknown",
            "hiberfil.sys can't be read, so whether the guest is hibernated can't be told",
            path=where,
            hint=_SHUT_DOWN + off,
        )


def _refuse_full(fs: NtfsFilesystem, room: int, where: str) -> None:
    free = 0
    for count in _free_clusters(fs):
        free += count * fs.mft.geometry.cluster_size
        if free >= room:
            return
    raise RefusedError(
        "volume-full",
        "the volume has not enough free space",
        path=where,
        expected=f"{room} bytes",
        found=f"{free} bytes",
        hint=_FULL,
    )


def _free_clusters(fs: NtfsFilesystem) -> Iterator[int]:
    """Count the clear bits of $Bitmap, one piece of it after the other."""
    bitmap: ByteSource | None = fs.mft.record(BITMAP_RECORD).stream()
    left = fs.mft.geometry.clusters
    offset = 0
    while bitmap is not None and left > 0:
        data = bitmap.read_at(offset, min(_CHUNK, -(-left // 8)))
        if not data:
            return
        bits = min(left, len(data) * 8)
        used = int.from_bytes(data, "little") & ((1 << bits) - 1)
        yield bits - used.bit_count()
        left -= bits
        offset += len(data)


def _walk(fs: NtfsFilesystem, path: str) -> tuple[list[Place], bool]:
    """What stands on the way, from the root to the last name that is there, and whether that is the path's own."""
    parts = split_path(path)
    if ".." in parts:
        raise UsageError("path-with-dots", "a path to write to is told without '..'", path=path)
    places = [fs.root]
    for part in parts:
        here = places[-1]
        if not here.record.is_directory:
            raise NotFoundError("not-a-directory", "this is no directory", path=here.path)
        found = fs.candidates(here, part)
        if len({place.parts[-1] for place in found}) > 1:
            raise RefusedError(
                "name-ambiguous",
                "the directory has several names that differ in case only",
                path=here.path,
                found=", ".join(place.parts[-1] for place in found),
                hint="Rename or remove one of them in the guest.",
            )
        if not found:
            return places, False
        places.append(found[0])
        if fs.reparse_of(found[0]) is not None:
            return places, True  # never followed: the caller refuses it
    return places, True


def _reparse_refusal(reparse: Reparse, place: Place) -> RefusedError:
    """The refusal for what a reparse point makes of a file or directory."""
    tag = reparse.tag
    found = f"tag {tag:#010x}"
    if reparse.is_link:
        target = link_target(reparse, place.path)
        shown = "the place that it leads to" if target is None else target.text
        return RefusedError(
            "reparse-on-path",
            "the path leads through a link",
            path=place.path,
            found=found if target is None else target.text,
            hint=f"Name the place itself: {shown}.",
        )
    if tag == WOF:
        return RefusedError(
            "file-wof-compressed",
            "the file is compressed (CompactOS)",
            path=place.path,
            found=found,
            hint=f'In the guest: compact /u /exe "{_windows(place)}" (or compact /compactos:never for all).',
        )
    if tag == WIM:
        return RefusedError(
            "file-in-wim",
            "the file's bytes lie in a WIM archive (WIMBoot)",
            path=place.path,
            found=found,
            hint="Copy the file over itself in the guest; then its bytes lie on the volume.",
        )
    if tag == DEDUP:
        return RefusedError(
            "file-deduplicated",
            "the file is deduplicated: its bytes are shared with others",
            path=place.path,
            found=found,
            hint=f'In the guest: Expand-DedupFile -Path "{_windows(place)}".',
        )
    if tag & CLOUD_MASK == CLOUD:
        return RefusedError(
            "file-in-cloud",
            "the file belongs to a cloud provider",
            path=place.path,
            found=found,
            hint="Change it in the guest, or write it outside of the synchronized folder.",
        )
    return RefusedError(
        "file-reparse",
        "a filter driver of the guest stands between this file and its bytes",
        path=place.path,
        found=found,
        hint="Change it in the running guest.",
    )


def _windows(place: Place) -> str:
    return "C:\\" + "\\".join(place.parts)


def _refuse_directory(fs: NtfsFilesystem, place: Place, *, complete: bool) -> None:
    if fs.standard_facts(place.record)[1] & ATTRIBUTE_ENCRYPTED and not complete:
        raise RefusedError(
            "directory-encrypted",
            "what is made in this directory has to be encrypted (EFS)",
            path=place.path,
            hint="Make it elsewhere, or in the running guest.",
        )


def _refuse_storage(fs: NtfsFilesystem, place: Place) -> None:
    pieces = place.record.find(DATA)
    flags = pieces[0].flags if pieces else 0
    attributes = fs.standard_facts(place.record)[1]
    if flags & ENCRYPTED or attributes & ATTRIBUTE_ENCRYPTED:
        raise RefusedError(
            "file-encrypted",
            "the file is encrypted (EFS)",
            path=place.path,
            hint=f'In the guest, as its owner: cipher /d "{_windows(place)}".',
        )
    if flags & COMPRESSED or attributes & ATTRIBUTE_COMPRESSED:
        raise RefusedError(
            "file-compressed",
            "the file is compressed (LZNT1)",
            path=place.path,
            hint=f'In the guest: compact /u "{_windows(place)}".',
        )
    if flags & SPARSE or attributes & ATTRIBUTE_SPARSE:
        raise RefusedError(
            "file-sparse",
            "the file is sparse",
            path=place.path,
            hint=f'In the guest, copy it over itself, or: fsutil sparse setflag "{_windows(place)}" 0.',
        )
