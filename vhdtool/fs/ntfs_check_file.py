"""A file as a whole under our own rules: what it must have, its security descriptor, flags that say one thing twice."""

from __future__ import annotations

from collections.abc import Iterator

import construct as c

from vhdtool.errors import Problem
from vhdtool.fs.ntfs import ATTRIBUTE_COMPRESSED, ATTRIBUTE_ENCRYPTED, ATTRIBUTE_REPARSE, ATTRIBUTE_SPARSE
from vhdtool.fs.ntfs_check_index import NAMES, BlockCache, check_index
from vhdtool.fs.ntfs_check_record import segment_of
from vhdtool.fs.ntfs_check_volume import CheckedFile, CheckedVolume
from vhdtool.fs.ntfs_index import FILE_NAME_KEY
from vhdtool.fs.ntfs_layout import utf16
from vhdtool.fs.ntfs_records import (
    COMPRESSED,
    DATA,
    ENCRYPTED,
    FILE_NAME,
    FIRST_USER_RECORD,
    INDEX_ROOT,
    REPARSE_POINT,
    SPARSE,
    STANDARD_INFORMATION,
)
from vhdtool.layout import packed

SECURE_RECORD, EXTEND_RECORD = 9, 11
SECURITY_DESCRIPTOR = 0x50
SECURITY_IDS = "$SII"

# Linux kernel, fs/ntfs3/ntfs.h (struct ATTR_STD_INFO, ATTR_STD_INFO5).
STANDARD_INFO = c.Struct(c.Padding(32), "attributes" / c.Int32ul, c.Padding(12))
STANDARD_INFO_3 = c.Struct(
    c.Padding(32), "attributes" / c.Int32ul, c.Padding(16), "security" / c.Int32ul, c.Padding(16)
)
SECURITY_KEY = c.Struct("id" / c.Int32ul)

_INFO, _INFO_3, _SECURITY = packed(STANDARD_INFO), packed(STANDARD_INFO_3), packed(SECURITY_KEY)
_KEY = packed(FILE_NAME_KEY)
_DEPTH_OF_EXTEND = 4  # $Extend/$RmMetadata/$TxfLog/$Tops
_TWICE = ((COMPRESSED, ATTRIBUTE_COMPRESSED), (SPARSE, ATTRIBUTE_SPARSE), (ENCRYPTED, ATTRIBUTE_ENCRYPTED))


class Files:
    """The files of one state of a volume, each by itself. What Windows keeps below $Extend is not judged."""

    def __init__(self, volume: CheckedVolume, cache: BlockCache) -> None:
        self._volume = volume
        self._cache = cache
        self._security: frozenset[int] | None = None

    def problems(self, file: CheckedFile) -> Iterator[Problem]:
        """What is wrong with a file, but for its records and names."""
        what = f"MFT record {file.segment}"
        if file.base.is_directory != bool(file.pieces(INDEX_ROOT, NAMES)):
            yield Problem("ntfs-record-damaged", f"{what} has an index of names and is no directory, or has none")
        standard = file.pieces(STANDARD_INFORMATION)
        value = standard[0].value if len(standard) == 1 else None
        if value is None or len(value) not in (_INFO.size, _INFO_3.size):
            yield Problem("ntfs-record-damaged", f"{what} has no standard information")
            return
        attributes = _INFO.unpack_from(value)[0]
        data = file.pieces(DATA)
        for flag, attribute in _TWICE:
            if data and data[0].flags & flag and not attributes & attribute:
                yield Problem("ntfs-attributes-differ", f"{what} does not say that its data has flags {flag:#x}")
        if bool(attributes & ATTRIBUTE_REPARSE) != bool(file.pieces(REPARSE_POINT)):
            yield Problem("ntfs-attributes-differ", f"{what} says that it is a reparse point and is none, or is one")
        if file.segment < FIRST_USER_RECORD or below_extend(self._volume, file):
            return
        if not names_of(file):
            yield Problem("ntfs-name-missing", f"{what} has no name")
        if not data and not any(type_ == INDEX_ROOT for type_, _ in file.attributes):
            yield Problem("ntfs-record-damaged", f"{what} has neither data nor an index")
        yield from self._security_problems(file, value, what)

    def _security_problems(self, file: CheckedFile, standard: bytes, what: str) -> Iterator[Problem]:
        number = _INFO_3.unpack(standard)[1] if len(standard) == _INFO_3.size else 0
        if number and number not in self._security_ids():
            yield Problem("ntfs-security-missing", f"{what} has the security id {number}, which $Secure does not know")
        if not number and not file.pieces(SECURITY_DESCRIPTOR):
            yield Problem("ntfs-security-missing", f"{what} has no security descriptor")

    def _security_ids(self) -> frozenset[int]:
        if self._security is None:
            secure = self._volume.file(SECURE_RECORD)
            index = check_index(self._volume, secure, SECURITY_IDS, self._cache) if secure is not None else None
            keys = [entry.key for entry in index.entries] if index is not None else []
            self._security = frozenset(_SECURITY.unpack_from(key)[0] for key in keys if len(key) >= _SECURITY.size)
        return self._security


def names_of(file: CheckedFile) -> list[bytes]:
    """The values of a file's names, as stored."""
    return [piece.value for piece in file.pieces(FILE_NAME) if piece.value is not None]


def parents_of(file: CheckedFile) -> set[int]:
    """The segments of the directories that a file says it is in."""
    return {segment_of(_KEY.unpack_from(value)[0]) for value in names_of(file) if len(value) >= _KEY.size}


def below_extend(volume: CheckedVolume, file: CheckedFile) -> bool:
    """Whether it is one of those files that Windows keeps below $Extend, and not by all of its own rules."""
    here: CheckedFile | None = file
    for _ in range(_DEPTH_OF_EXTEND):
        parents = parents_of(here) if here is not None else set()
        if EXTEND_RECORD in parents:
            return True
        here = volume.file(min(parents)) if parents else None
    return False


def index_problems(volume: CheckedVolume, file: CheckedFile, cache: BlockCache) -> Iterator[Problem]:
    """What is wrong with the indexes of a file that are not of names: security ids, object ids, quotas."""
    for type_, raw in file.attributes:
        name = utf16(raw)
        if type_ == INDEX_ROOT and name != NAMES:
            yield from check_index(volume, file, name, cache).problems
