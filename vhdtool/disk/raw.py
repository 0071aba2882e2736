"""A raw image: the bytes of the disk and nothing else.

Raw has no signature, so a raw image is what nothing else claims: a file of whole sectors that does not start as some
other kind of file does. Those are refused by name, because reading a QCOW2 as a disk without partitions helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PureWindowsPath

from vhdtool.disk import vhd_format, vhdx_format
from vhdtool.disk.device import FileDevice, LayerInfo, Origin, Run
from vhdtool.disk.journal_found import JOURNAL_PENDING
from vhdtool.errors import DamagedError, InputError, Problem, UnsupportedError

SECTOR_SIZE = 512
LARGE_SECTOR_SIZE = 4096
_GPT_SIGNATURE = b"EFI PART"
_CONVERT_HINT = "Convert it: qemu-img convert -O vhdx {path} OUTPUT.vhdx"
_UNPACK_HINT = "Unpack it, and name the disk image that was in it."
_NO_DISK_HINT = "Name a disk image: .vhdx, .avhdx, .vhd, .avhd or raw."

# offset, signature, what it is, what to do
_OTHER_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"QFI\xfb", "a QCOW image", _CONVERT_HINT),
    (0, b"QED\0", "a QED image", _CONVERT_HINT),
    (0, b"KDMV", "a VMDK image", _CONVERT_HINT),
    (0, b"COWD", "a VMDK image of ESX", _CONVERT_HINT),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor", _CONVERT_HINT),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", _CONVERT_HINT),
    (0, b"WithoutFreeSpace", "a Parallels image", _CONVERT_HINT),
    (0, b"WithouFreSpacExt", "a Parallels image", _CONVERT_HINT),
    (0, b"EVF\x09\x0d\x0a\xff\x00", "an Expert Witness (E01) image", "Export it as a raw image: ewfexport -f raw FILE"),
    (0, b"EVF2\x0d\x0a\x81\x00", "an Expert Witness (Ex01) image", "Export it as a raw image first."),
    (0, b"MSWIM\0\0\0", "a WIM archive", "Apply it to a disk first: wimapply FILE 1 VOLUME"),
    (32769, b"CD001", "a CD or DVD image (ISO 9660)", _NO_DISK_HINT),
    (0, b"regf", "a registry hive", _NO_DISK_HINT),
    (0, b"MSCF", "a cabinet", _NO_DISK_HINT),
    (0, b"\x1f\x8b\x08", "compressed (gzip)", _UNPACK_HINT),
    (0, b"\xfd7zXZ\0", "compressed (xz)", _UNPACK_HINT),
    (0, b"BZh", "compressed (bzip2)", _UNPACK_HINT),
    (0, b"\x28\xb5\x2f\xfd", "compressed (zstd)", _UNPACK_HINT),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK_HINT),
    (0, b"PK\x03\x04", "a ZIP archive", _UNPACK_HINT),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK_HINT),
    (257, b"ustar", "a tar archive (or an OVA)", _UNPACK_HINT),
    (0, b"\x7fELF", "a program", _NO_DISK_HINT),
)
_APPLE_DISK_IMAGE = b"koly"  # in the last sector
_START_SIZE = 512


def open_raw(file: FileDevice, *, left_over: int | None = None, journal: Problem | None = None) -> RawLayer:
    """Open a raw image. Closing the layer closes ``file``; where opening fails, ``file`` stays open.

    ``left_over``: where the footer of another disk starts, with which the file ends; the disk ends there.
    ``journal``: what there is to tell of a journal beside the image, which ``file`` honours where it is pending.

    Raises :class:`InputError` ``not-a-disk``; :class:`UnsupportedError` ``other-format`` for a file of another kind;
    :class:`DamagedError` ``vhdx-signature-damaged``, ``vhd-footer-damaged`` for what is left of those formats.
    """
    _refuse_other_kinds(file)
    _refuse_remains(file)
    if file.size == 0 or file.size % SECTOR_SIZE:
        raise InputError(
            "not-a-disk",
            "the file is no disk image: it does not consist of whole sectors",
            path=file.path,
            expected=f"a multiple of {SECTOR_SIZE} bytes, more than 0",
            found=f"{file.size} bytes",
            hint=_NO_DISK_HINT,
        )
    problems: tuple[Problem, ...] = ()
    if PureWindowsPath(file.path).suffix.lower() in {".vhd", ".avhd"}:
        message = "the file is named as a VHD and has no footer; it is read as a raw image"
        problems = (Problem("vhd-footer-missing", message, file.path, file.size),)
    if left_over is not None:
        message = (
            "the file ends with the footer of a longer fixed VHD; it is read as the raw volume that it starts with"
        )
        problems = (Problem("vhd-footer-left-over", message, file.path, left_over),)
    if journal is not None:
        problems = (*problems, journal)
    return RawLayer(file, problems, file.size if left_over is None else left_over)


class RawLayer:
    """An opened raw image: a :class:`vhdtool.disk.device.Layer`."""

    def __init__(self, file: FileDevice, problems: tuple[Problem, ...], size: int) -> None:
        self._file = file
        sector_size = _sector_size(file)
        self._info = LayerInfo(
            path=file.path,
            format="raw",
            type="fixed",
            virtual_size=size,
            logical_sector_size=sector_size,
            physical_sector_size=sector_size,
            block_size=None,
            file_size=file.size,
            identity=None,
            linkage=(),
            locators=(),
            log="replayed" if any(problem.code == JOURNAL_PENDING for problem in problems) else None,
            creator=None,
            problems=problems,
        )

    @property
    def info(self) -> LayerInfo:
        """The file's facts."""
        return self._info

    def resolve(self, offset: int, length: int) -> Iterator[Run]:
        """One run: everything is in the file. Raises :class:`ValueError` for a range outside the disk."""
        if offset < 0 or length < 0 or offset + length > self._info.virtual_size:
            raise ValueError("the range lies outside the disk")
        return iter((Run(offset, length, Origin.DATA, offset),) if length else ())

    def read_stored(self, file_offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes of a DATA run."""
        self._file.read_exactly_into(file_offset, buffer)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _sector_size(file: FileDevice) -> int:
    """4096 where only that makes a GPT header stand in the second sector, else 512."""
    if file.size % LARGE_SECTOR_SIZE or file.read_at(SECTOR_SIZE, len(_GPT_SIGNATURE)) == _GPT_SIGNATURE:
        return SECTOR_SIZE
    large = file.read_at(LARGE_SECTOR_SIZE, len(_GPT_SIGNATURE)) == _GPT_SIGNATURE
    return LARGE_SECTOR_SIZE if large else SECTOR_SIZE


def _refuse_other_kinds(file: FileDevice) -> None:
    start = file.read_at(0, _START_SIZE)
    for offset, signature, kind, hint in _OTHER_KINDS:
        end = offset + len(signature)
        found = start[offset:end] if end <= _START_SIZE else file.read_at(offset, len(signature))
        if found == signature:
            raise _other(file, kind, offset, hint)
    last = max(0, file.size - SECTOR_SIZE)
    if file.read_at(last, len(_APPLE_DISK_IMAGE)) == _APPLE_DISK_IMAGE:
        raise _other(file, "an Apple disk image", last, _CONVERT_HINT)


def _other(file: FileDevice, kind: str, offset: int, hint: str) -> UnsupportedError:
    return UnsupportedError(
        "other-format",
        f"the file is {kind}, not a VHDX, VHD or raw image",
        path=file.path,
        offset=offset,
        hint=hint.format(path=file.path),
    )


def _refuse_remains(file: FileDevice) -> None:
    """A VHDX or dynamic VHD that lost its signatures is not a raw disk."""
    headers = [file.read_at(offset, 4) for offset in vhdx_format.HEADER_OFFSETS]
    tables = [file.read_at(offset, 4) for offset in vhdx_format.REGION_TABLE_OFFSETS]
    named_vhdx = PureWindowsPath(file.path).suffix.lower() in {".vhdx", ".avhdx", ".vhds"}
    if named_vhdx or (vhdx_format.HEADER_SIGNATURE in headers and vhdx_format.REGION_SIGNATURE in tables):
        raise DamagedError(
            "vhdx-signature-damaged",
            "the file is named as a VHDX, and its signature is missing"
            if named_vhdx
            else "the file has the headers of a VHDX, and its signature is missing",
            path=file.path,
            offset=0,
            expected=repr(vhdx_format.FILE_SIGNATURE),
            found=repr(file.read_at(0, len(vhdx_format.FILE_SIGNATURE))),
            hint=vhdx_format.RESTORE_HINT,
        )
    cookie = vhd_format.HEADER_COOKIE
    if file.read_at(vhd_format.FOOTER_SIZE, len(cookie)) == cookie:
        raise DamagedError(
            "vhd-footer-damaged",
            "the file has the header of a dynamic VHD, and both copies of its footer are missing",
            path=file.path,
            offset=0,
            hint=vhd_format.RESTORE_HINT,
        )
