"""Files and directories of a changed NTFS volume as dissect.ntfs reads them, against what they should be.

Our own reader takes records and run lists from dissect.ntfs too, but finds names by itself. Here nothing of ours but
the comparison of names is used: dissect.ntfs parses directories, attributes and attribute lists. Its own two ways to
a name are not taken: its look-up upper-cases with ``str.upper`` and misses names in directories with others than
ASCII ones, and its listing shows what lies in index blocks that were freed. Instead its entries are followed down
the tree, as Windows does it, and compared by the volume's $UpCase.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vhdtool.disk.device import BlockDevice
from vhdtool.errors import DamagedError, OpinionError, UnsupportedError
from vhdtool.fs.boundary import MeteredStream, reading
from vhdtool.fs.paths import join_path, split_path
from vhdtool.volume.partitions import Volume

READER = "dissect.ntfs"
PIECE = 1 << 20
MAX_DEPTH = 32  # of a directory's tree
_UPCASE_RECORD, _ROOT_RECORD = 10, 5
_UPCASE_UNITS = 65536
_FILE_NAME, _REPARSE_POINT = 0x30, 0xC0
_IN_USE = 1  # flag of an MFT record
_NAME_LENGTH, _NAME = 64, 66  # their places in an index key: the $FILE_NAME attribute
_HINT = "Nothing was written. Please report this, with the history of the volume."

Units = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileExpectation:
    """What must be at a path of the guest. ``size`` (bytes) and ``sha256`` (hex) are compared where they are given."""

    path: str
    kind: Literal["file", "directory", "absent"]
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FilesVerdict:
    """What the foreign reader confirmed on a volume: so many paths, and so many bytes of files by their hash."""

    reader: str
    version: str
    volume: int
    confirmed: int
    bytes_hashed: int


def confirm_files(device: BlockDevice, volume: Volume, expected: Sequence[FileExpectation]) -> FilesVerdict:
    """Have dissect.ntfs find and read files; ``device`` holds the bytes of ``volume`` as they shall be.

    Raises:
        OpinionError: ``second-opinion-files`` where a path, kind, size or content is another one, or the volume can't
            be read.
    """
    asked = f"volume {volume.index}"
    hashed = 0
    try:
        reader = _Reader(device)
        for one in expected:
            asked = one.path
            hashed += _confirm(reader, one)
    except (DamagedError, UnsupportedError) as error:
        raise _contradicted(asked, f"it can't be read: {error}") from error
    return FilesVerdict(READER, reader.version, volume.index, len(expected), hashed)


def _confirm(reader: _Reader, expected: FileExpectation) -> int:
    """Compare one path; return the bytes that were hashed."""
    record = reader.find(expected.path)
    if record is None or expected.kind == "absent":
        if (record is None) != (expected.kind == "absent"):
            raise _contradicted(expected.path, "it is not there" if record is None else "it is still there")
        return 0
    with reading("the NTFS file system", expected.path):
        is_directory = bool(record.is_dir())
    if is_directory != (expected.kind == "directory"):
        raise _contradicted(expected.path, f"it is {'a directory' if is_directory else 'a file'}")
    if is_directory:
        return 0
    size = reader.size(record, expected.path)
    if expected.size is not None and size != expected.size:
        raise _contradicted(expected.path, f"it has {size} bytes, not {expected.size}")
    if expected.sha256 is None:
        return 0
    if reader.sha256(record, expected.path, size) != expected.sha256.lower():
        raise _contradicted(expected.path, "it has other bytes than were written")
    return size


class _Reader:
    """A volume as dissect.ntfs opens it, with a limit on what it may read."""

    def __init__(self, device: BlockDevice) -> None:
        self._stream = MeteredStream(device)
        with reading("the NTFS file system"):
            from dissect.ntfs import NTFS  # noqa: PLC0415  # 50 ms that only a comparison needs

            self._ntfs: Any = NTFS(self._stream)
            self._upcase = _units(self._ntfs.mft.get(_UPCASE_RECORD).open().read(2 * _UPCASE_UNITS))
        if len(self._upcase) != _UPCASE_UNITS:
            raise DamagedError("filesystem-damaged", "the upper-case table has a wrong size", path="$UpCase")

    @property
    def version(self) -> str:
        """The installed version of the reader."""
        from importlib import metadata  # noqa: PLC0415  # 20 ms that only a comparison needs

        return metadata.version(READER)

    def find(self, path: str) -> Any | None:
        """Return the MFT record at a path, ``None`` where there is none."""
        self._stream.allow(0)
        parts = split_path(path)
        with reading("the NTFS file system", path):
            record = self._ntfs.mft.get(_ROOT_RECORD)
            for depth, name in enumerate(parts, 1):
                if not record.is_dir():
                    return None
                found = self._entered(record, name, join_path(parts[:depth]))
                if found is None:
                    return None
                record = found
        return record

    def size(self, record: Any, path: str) -> int:
        """Return the length of a file's content. Raises :class:`UnsupportedError` ``reparse-point``."""
        with reading("the NTFS file system", path):
            if record.attributes[_REPARSE_POINT]:  # WOF: the reader returns zeros for what is compressed elsewhere
                raise UnsupportedError("reparse-point", "the file's bytes are kept in another way", path=path)
            return int(record.size()) if record.attributes.find("", _data_type()) else 0

    def sha256(self, record: Any, path: str, size: int) -> str:
        """Return the SHA-256 of a file's content, read piece by piece."""
        digest = hashlib.sha256()
        done = 0
        with reading("the NTFS file system", path):
            stream = record.open() if size else None
            while stream is not None and done < size:
                self._stream.allow(PIECE)
                piece = stream.read(min(PIECE, size - done))
                if not piece:
                    raise DamagedError("truncated", "the file's data is cut off", path=path)
                digest.update(piece)
                done += len(piece)
        return digest.hexdigest()

    def _entered(self, directory: Any, name: str, path: str) -> Any | None:
        """The record that a name of a directory leads to, if it knows itself by that name."""
        units = _units(name.encode("utf-16-le", "surrogatepass"))
        index = directory.index("$I30")
        entries = list(self._matches(index, list(index.root.entries()), self._fold(units), 0))
        if not entries:
            return None
        entry = next((one for one in entries if _name_of(one) == units), entries[0])
        record = entry.dereference()
        sequence = int(entry.header.FileReference.SequenceNumber)
        if int(record.header.SequenceNumber) != sequence or not int(record.header.Flags) & _IN_USE:
            raise DamagedError("filesystem-damaged", "its directory entry leads to a file that is gone", path=path)
        if (int(directory.segment), _name_of(entry)) not in set(_names_of(record)):
            raise DamagedError("filesystem-damaged", "its directory entry leads to a file of another name", path=path)
        return record

    def _matches(self, index: Any, entries: Sequence[Any], wanted: Units, depth: int) -> Iterator[Any]:
        """Yield the entries with a name, going down wherever it may be."""
        if depth > MAX_DEPTH:
            raise DamagedError("filesystem-damaged", "the directory's index is too deep")
        previous: Units = ()
        for entry in entries:
            key = () if entry.is_end else self._fold(_name_of(entry))
            if not entry.is_end and key < previous:
                raise DamagedError("filesystem-damaged", "the names of the directory's index are out of order")
            previous = key
            if not entry.is_end and key < wanted:
                continue
            if entry.is_node:
                yield from self._matches(index, list(index.index_buffer(entry.node_vcn).entries()), wanted, depth + 1)
            if entry.is_end or key > wanted:
                return
            yield entry

    def _fold(self, units: Units) -> Units:
        return tuple([self._upcase[unit] for unit in units])


def _data_type() -> Any:
    from dissect.ntfs.c_ntfs import ATTRIBUTE_TYPE_CODE  # noqa: PLC0415  # loaded already when a volume is open

    return ATTRIBUTE_TYPE_CODE.DATA


def _units(raw: bytes) -> Units:
    return struct.unpack(f"<{len(raw) // 2}H", raw)


def _name_of(entry: Any) -> Units:
    """The name in an index entry."""
    key = entry.key
    length = key[_NAME_LENGTH]
    raw = bytes(key[_NAME : _NAME + 2 * length])
    if len(raw) != 2 * length:
        raise DamagedError("filesystem-damaged", "a name leaves its directory entry")
    return _units(raw)


def _names_of(record: Any) -> Iterator[tuple[int, Units]]:
    """The names that a record tells: the directory's record, and the name."""
    for attribute in record.attributes[_FILE_NAME]:
        value = attribute.attribute
        parent = value.attr.ParentDirectory
        segment = int(parent.SegmentNumberLowPart) | int(parent.SegmentNumberHighPart) << 32
        yield segment, _units(value.file_name.encode("utf-16-le", "surrogatepass"))


def _contradicted(path: str, what: str) -> OpinionError:
    return OpinionError(
        "second-opinion-files", f"the changed volume is not confirmed by {READER}: {what}", path=path, hint=_HINT
    )
