"""libntfs-3g as the worker calls it: which library, which functions, and what lies where in its structures.

Only the beginnings of its structures are declared, up to the last field that is used: those are the same in every
build option. Sizes and offsets: ``include/ntfs-3g/{volume,inode,attrib,device,security,layout}.h`` of 2022.10.3,
compared with a compiler's. Each mount checks them against what the volume itself says (:func:`check_layout`).

The worker runs this file before it has shut itself in; after that nothing more is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from typing import Any, Final

FIRST_CHOICE: Final = "libntfs-3g.so.89"
"""Tried first: the version that :data:`vhdtool.fs.ntfs3g_failures.TESTED` names."""
OTHERS: Final = "libntfs-3g.so."
FOLDERS: Final = (
    "/lib", "/usr/lib", "/usr/lib64", "/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
)  # fmt: skip
"""Where libraries of other versions are looked for; the tested ones are found by the system's own loader."""
MAC_NAMES: Final = tuple(
    f"{folder}/libntfs-3g{number}.dylib" for folder in ("/opt/homebrew/lib", "/usr/local/lib") for number in (".89", "")
)

UPCASE_SIZE: Final = 131072
"""Length of $UpCase in bytes: 65,536 characters of two bytes, on every volume."""

NV_READ_ONLY, NV_COMPRESSION = 1 << 0, 1 << 6
DEVICE_OPEN = 1
IS_DIRECTORY = 2  # MFT_RECORD_IS_DIRECTORY
UPDATE_MODIFIED = 6  # NTFS_UPDATE_MCTIME
AT_STANDARD_INFORMATION, AT_FILE_NAME, AT_DATA = 0x10, 0x30, 0x80
REGULAR, DIRECTORY = 0o100000, 0o040000  # S_IFREG, S_IFDIR


class LayoutError(Exception):
    """The library's structures are not laid out as they are declared here."""


class Device(Structure):
    """``struct ntfs_device``."""

    _fields_ = (
        ("operations", c_void_p),
        ("state", c_ulong),
        ("name", c_char_p),
        ("private", c_void_p),
        ("heads", c_int),
        ("sectors_per_track", c_int),
    )


OPEN = CFUNCTYPE(c_int, POINTER(Device), c_int, use_errno=True)
CLOSE = CFUNCTYPE(c_int, POINTER(Device), use_errno=True)
SEEK = CFUNCTYPE(c_int64, POINTER(Device), c_int64, c_int, use_errno=True)
MOVE = CFUNCTYPE(c_int64, POINTER(Device), c_void_p, c_int64, use_errno=True)
MOVE_AT = CFUNCTYPE(c_int64, POINTER(Device), c_void_p, c_int64, c_int64, use_errno=True)
SYNC = CFUNCTYPE(c_int, POINTER(Device), use_errno=True)
STAT = CFUNCTYPE(c_int, POINTER(Device), c_void_p, use_errno=True)
IOCTL = CFUNCTYPE(c_int, POINTER(Device), c_ulong, c_void_p, use_errno=True)
LOG_HANDLER = CFUNCTYPE(c_int, c_char_p, c_char_p, c_int, c_uint32, c_void_p, c_char_p, c_void_p)


class Operations(Structure):
    """``struct ntfs_device_operations``: how the library reaches its device."""

    _fields_ = (
        ("open", OPEN),
        ("close", CLOSE),
        ("seek", SEEK),
        ("read", MOVE),
        ("write", MOVE),
        ("pread", MOVE_AT),
        ("pwrite", MOVE_AT),
        ("sync", SYNC),
        ("stat", STAT),
        ("ioctl", IOCTL),
    )


class Volume(Structure):
    """The beginning of ``ntfs_volume``."""

    _fields_ = (
        ("device", c_void_p),
        ("name", c_void_p),
        ("state", c_ulong),
        ("volume_inode", c_void_p),
        ("major", c_uint8),
        ("minor", c_uint8),
        ("flags", c_uint16),
        ("sector_size", c_uint16),
        ("sector_bits", c_uint8),
        ("cluster_size", c_uint32),
        ("record_size", c_uint32),
        ("index_size", c_uint32),
        ("cluster_bits", c_uint8),
        ("record_bits", c_uint8),
        ("index_bits", c_uint8),
        ("zone_multiplier", c_uint8),
        ("full_zones", c_uint8),
        ("next_record", c_int64),
        ("mft_zone_start", c_int64),
        ("mft_zone_end", c_int64),
        ("mft_zone_position", c_int64),
        ("first_data_position", c_int64),
        ("second_data_position", c_int64),
        ("clusters", c_int64),
    )


class MftRecord(Structure):
    """The beginning of ``MFT_RECORD``, as it is on the volume."""

    _fields_ = (
        ("magic", c_uint32),
        ("fixups", c_uint16 * 2),
        ("log_sequence", c_uint64),
        ("sequence", c_uint16),
        ("links", c_uint16),
        ("first_attribute", c_uint16),
        ("flags", c_uint16),
    )


class Inode(Structure):
    """``ntfs_inode``."""

    _fields_ = (
        ("number", c_uint64),
        ("record", POINTER(MftRecord)),
        ("volume", c_void_p),
        ("state", c_ulong),
        ("flags", c_uint32),
        ("list_size", c_uint32),
        ("list", c_void_p),
        ("extents", c_int),
        ("extent_inodes", c_void_p),
        ("data_size", c_int64),
        ("allocated_size", c_int64),
        ("created", c_int64),
        ("modified", c_int64),
        ("changed", c_int64),
        ("accessed", c_int64),
        ("owner_id", c_uint32),
        ("security_id", c_uint32),
    )


class Attribute(Structure):
    """The beginning of ``ntfs_attr``."""

    _fields_ = (
        ("runs", c_void_p),
        ("inode", c_void_p),
        ("type", c_uint32),
        ("flags", c_uint16),
        ("name", c_void_p),
        ("name_length", c_uint32),
        ("state", c_ulong),
        ("allocated_size", c_int64),
        ("data_size", c_int64),
        ("initialized_size", c_int64),
    )


class AttributeHeader(Structure):
    """The beginning of a resident ``ATTR_RECORD``, as it is on the volume."""

    _fields_ = (
        ("type", c_uint32),
        ("length", c_uint32),
        ("non_resident", c_uint8),
        ("name_length", c_uint8),
        ("name_offset", c_uint16),
        ("flags", c_uint16),
        ("instance", c_uint16),
        ("value_length", c_uint32),
        ("value_offset", c_uint16),
    )


class Search(Structure):
    """The beginning of ``ntfs_attr_search_ctx``."""

    _fields_ = (("record", c_void_p), ("attribute", POINTER(AttributeHeader)))


class FileName(Structure):
    """The fixed part of ``FILE_NAME_ATTR``, as it is on the volume; the name follows (:data:`NAME_AT`)."""

    _fields_ = (
        ("parent", c_uint64),
        ("times", c_uint64 * 4),
        ("allocated_size", c_uint64),
        ("data_size", c_uint64),
        ("attributes", c_uint32),
        ("reparse", c_uint32),
        ("length", c_uint8),
        ("namespace", c_uint8),
    )


NAME_AT: Final = FileName.namespace.offset + 1


class SecurityContext(Structure):
    """``struct SECURITY_CONTEXT``: for the calls that are made here the volume and an empty cache are enough."""

    _fields_ = (
        ("volume", POINTER(Volume)),
        ("mappings", c_void_p * 2),
        ("cache", POINTER(c_void_p)),
        ("numbers", c_uint32 * 4),
    )


_VOLUME, _INODE, _ATTRIBUTE, _SEARCH = POINTER(Volume), POINTER(Inode), POINTER(Attribute), POINTER(Search)
_CONTEXT = POINTER(SecurityContext)

# Name: what it returns, what it takes. Every call that is made, and no other.
FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "ntfs_set_char_encoding": (c_int, c_char_p),
    "ntfs_log_set_handler": (None, LOG_HANDLER),
    "ntfs_device_alloc": (POINTER(Device), c_char_p, c_int64, POINTER(Operations), c_void_p),
    "ntfs_device_mount": (_VOLUME, POINTER(Device), c_ulong),
    "ntfs_umount": (c_int, _VOLUME, c_int),
    "ntfs_set_ignore_case": (c_int, _VOLUME),
    "ntfs_inode_open": (_INODE, _VOLUME, c_uint64),
    "ntfs_inode_close": (c_int, _INODE),
    "ntfs_inode_close_in_dir": (c_int, _INODE, _INODE),
    "ntfs_inode_lookup_by_name": (c_uint64, _INODE, c_char_p, c_int),
    "ntfs_inode_update_times": (None, _INODE, c_int),
    "ntfs_inode_set_times": (c_int, _INODE, c_char_p, ctypes.c_size_t, c_int),
    "ntfs_create": (_INODE, _INODE, c_uint32, c_char_p, c_uint8, c_uint32),
    "ntfs_delete": (c_int, _VOLUME, c_char_p, _INODE, _INODE, c_char_p, c_uint8),
    "ntfs_check_empty_dir": (c_int, _INODE),
    "ntfs_attr_open": (_ATTRIBUTE, _INODE, c_uint32, c_void_p, c_uint32),
    "ntfs_attr_close": (None, _ATTRIBUTE),
    "ntfs_attr_pread": (c_int64, _ATTRIBUTE, c_int64, c_int64, c_void_p),
    "ntfs_attr_pwrite": (c_int64, _ATTRIBUTE, c_int64, c_int64, c_void_p),
    "ntfs_attr_truncate": (c_int, _ATTRIBUTE, c_int64),
    "ntfs_attr_truncate_solid": (c_int, _ATTRIBUTE, c_int64),
    "ntfs_attr_get_search_ctx": (_SEARCH, _INODE, c_void_p),
    "ntfs_attr_put_search_ctx": (None, _SEARCH),
    "ntfs_attr_lookup": (
        c_int, c_uint32, c_void_p, c_uint32, c_uint32, c_int64, c_void_p, c_uint32, _SEARCH,
    ),
    "ntfs_get_ntfs_acl": (c_int, _CONTEXT, _INODE, c_void_p, ctypes.c_size_t),
    "ntfs_set_ntfs_acl": (c_int, _CONTEXT, _INODE, c_char_p, ctypes.c_size_t, c_int),
    "ntfs_set_ntfs_attrib": (c_int, _INODE, c_char_p, ctypes.c_size_t, c_int),
}  # fmt: skip
UNNAMED: Final = "AT_UNNAMED"


class Library:
    """The loaded library. ``name`` is what it was loaded by."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._library = ctypes.CDLL(name, use_errno=True)
        for function, (returns, *takes) in FUNCTIONS.items():
            found = getattr(self._library, function)
            found.restype, found.argtypes = returns, takes
        self.unnamed = ctypes.addressof(c_uint16.in_dll(self._library, UNNAMED))

    @property
    def soname(self) -> str:
        """The file name that it was loaded by."""
        return self.name.rpartition("/")[2]

    @property
    def path(self) -> str:
        """Where it lies, as far as the system tells."""
        with contextlib.suppress(OSError), os.fdopen(os.open("/proc/self/maps", os.O_RDONLY), errors="replace") as maps:
            for line in maps:
                place = line.partition("/")[2].rstrip("\n")
                if self.soname in place:
                    return "/" + place
        return self.name

    def __getattr__(self, function: str) -> Any:
        return getattr(self._library, function)


def candidates() -> Iterator[str]:
    """Names of the library to try, the tested one first. Folders are looked through only after that one failed."""
    if sys.platform == "darwin":
        yield from MAC_NAMES
        return
    yield FIRST_CHOICE
    others: dict[str, str] = {}
    for folder in FOLDERS:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(OTHERS) and name.removeprefix(OTHERS).isdecimal() and name != FIRST_CHOICE:
                    others.setdefault(name, entry.path)
    for name in sorted(others, reverse=True):
        yield others[name]


def load(names: Iterable[str]) -> tuple[Library | None, str]:
    """Load the first of ``names`` that is there and has every function; with it, why others were passed over."""
    faults: list[str] = []
    for name in names:
        try:
            return Library(name), "; ".join(faults)
        except (OSError, AttributeError, ValueError) as error:
            faults.append(str(error))
    return None, "; ".join(faults)


def check_layout(library: Library, volume: Any, boot_sector: bytes, size: int) -> None:
    """Compare the declared structures with what is known of a mounted volume. Raises :class:`LayoutError`."""
    facts = volume.contents
    sector = int.from_bytes(boot_sector[11:13], "little")
    per_cluster = boot_sector[13]
    cluster = sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
    if (facts.sector_size, facts.cluster_size) != (sector, cluster):
        raise LayoutError(f"clusters of {facts.cluster_size} bytes, not {cluster}")
    if not 0 < facts.clusters <= size // cluster or not 0 <= facts.first_data_position <= facts.clusters:
        raise LayoutError(f"{facts.clusters} clusters, the next at {facts.first_data_position}")
    inode = library.ntfs_inode_open(volume, 10)
    if not inode:
        raise LayoutError("$UpCase can't be opened")
    told = inode.contents
    if told.number != 10 or told.volume != ctypes.addressof(facts) or told.data_size != UPCASE_SIZE:
        raise LayoutError(f"$UpCase is file {told.number} of {told.data_size} bytes")
    stored = _standard_information(told)
    if (told.created, told.modified, told.changed, told.accessed, told.flags) != stored:
        raise LayoutError("$UpCase has other times than its record")
    attribute = library.ntfs_attr_open(inode, AT_DATA, library.unnamed, 0)
    if not attribute:
        raise LayoutError("the content of $UpCase can't be opened")
    size_told, initialized = attribute.contents.data_size, attribute.contents.initialized_size
    if (size_told, initialized) != (UPCASE_SIZE, UPCASE_SIZE) or attribute.contents.name_length:
        raise LayoutError(f"$UpCase has {size_told} bytes, {initialized} of them initialized")
    library.ntfs_attr_close(attribute)
    library.ntfs_inode_close(inode)


def _standard_information(inode: Any) -> tuple[int, ...]:
    """The four times and the attributes of a file, from its record: $STANDARD_INFORMATION comes first."""
    record = ctypes.addressof(inode.record.contents)
    header = AttributeHeader.from_address(record + inode.record.contents.first_attribute)
    if header.type != AT_STANDARD_INFORMATION or header.non_resident or header.value_length < 36:
        raise LayoutError("the record of $UpCase is not where it was looked for")
    value = ctypes.addressof(header) + header.value_offset
    return (*(c_int64 * 4).from_address(value), c_uint32.from_address(value + 32).value)
