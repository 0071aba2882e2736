"""Names under our own rules: what a file says of its names, what directories say of the file, and that both agree.

Here are the four mutations that no foreign checker finds, but for the counter of attribute ids: a name that is spelled
in another case than in the directory, a stale parent in it, a wrong size in the directory's entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vhdtool.errors import Problem
from vhdtool.fs.ntfs import IS_DIRECTORY
from vhdtool.fs.ntfs_check_file import Files, below_extend, index_problems, names_of
from vhdtool.fs.ntfs_check_index import NAMES, BlockCache, CheckedEntry, CheckedIndex, check_index
from vhdtool.fs.ntfs_check_record import segment_of
from vhdtool.fs.ntfs_check_volume import CheckedFile, CheckedVolume
from vhdtool.fs.ntfs_index import DOS_NAMESPACE, FILE_NAME_KEY
from vhdtool.fs.ntfs_layout import utf16
from vhdtool.fs.ntfs_records import DATA, FIRST_USER_RECORD, INDEX_ROOT
from vhdtool.layout import field_names, offset_of, packed

WIN32_NAMESPACE, WIN32_AND_DOS_NAMESPACE = 1, 3

_KEY = packed(FILE_NAME_KEY)
_FIELDS = field_names(FILE_NAME_KEY)
_PARENT, _ALLOCATED, _SIZE, _ATTRIBUTES, _LENGTH, _NAMESPACE = (
    _FIELDS.index(name) for name in ("parent", "allocated", "size", "attributes", "name_length", "namespace")
)
_NAMESPACE_AT, _DOS = offset_of(FILE_NAME_KEY, "namespace"), bytes([DOS_NAMESPACE])


class Names:
    """The directories and files of one state of a volume, held against each other.

    ``lagging`` allows what Windows leaves behind for itself: it brings the size of a file with several names up to
    date under the one that was opened, and never those below $Extend.
    """

    def __init__(self, volume: CheckedVolume, cache: BlockCache, *, lagging: bool = False) -> None:
        self.volume = volume
        self._cache = cache
        self._files = Files(volume, cache)
        self._lagging = lagging
        self._directories: dict[int, CheckedIndex | None] = {}

    def directory(self, segment: int) -> CheckedIndex | None:
        """The names in a directory, read whole; ``None`` for what is none."""
        if segment not in self._directories:
            file = self.volume.file(segment)
            sound = file is not None and file.pieces(INDEX_ROOT, NAMES)
            self._directories[segment] = check_index(self.volume, file, NAMES, self._cache) if file and sound else None
        return self._directories[segment]

    def problems_of_indexes(self, segment: int) -> Iterator[Problem]:
        """What is wrong with the indexes of a file, of names and of other things."""
        file, index = self.volume.file(segment), self.directory(segment)
        if index is not None:
            yield from index.problems
        if file is not None:
            yield from index_problems(self.volume, file, self._cache)

    def problems_of_file(self, file: CheckedFile) -> Iterator[Problem]:
        """What is wrong between a file and its names."""
        what = f"MFT record {file.segment}"
        values = names_of(file)
        if file.base.links != len(values):
            text = f"{what} counts {file.base.links} names, it has {len(values)}"
            yield Problem("ntfs-link-count", text)
        yield from self._files.problems(file)
        names: list[tuple[int, int]] = []
        for value in values:
            if len(value) < _KEY.size or len(value) != _KEY.size + 2 * _KEY.unpack_from(value)[_LENGTH]:
                yield Problem("ntfs-name-damaged", f"a name of {what} leaves its attribute")
                continue
            fields = _KEY.unpack_from(value)
            names.append((fields[_PARENT], fields[_NAMESPACE]))
            yield from self._held(file, value, fields[_PARENT], fields[_NAMESPACE])
        for parent, namespace in names:
            if namespace == DOS_NAMESPACE and (parent, WIN32_NAMESPACE) not in names:
                yield Problem("ntfs-name-damaged", f"{what} has a short name and no long one beside it")
            if namespace > WIN32_AND_DOS_NAMESPACE:
                yield Problem("ntfs-name-damaged", f"a name of {what} is of namespace {namespace}")

    def problems_of_entry(self, directory: int, entry: CheckedEntry) -> Iterator[Problem]:
        """What is wrong between an entry of a directory and the file that it leads to."""
        shown = f"'{utf16(entry.name)}' in directory {directory}"
        segment = segment_of(entry.reference)
        record = self.volume.record(segment)
        file = self.volume.file(segment)
        if file is None or record is None or not record.in_use:
            yield Problem("ntfs-name-dangling", f"{shown} leads to MFT record {segment}, which holds no file")
            return
        if record.reference != entry.reference:
            text = f"{shown} leads to an earlier use of MFT record {segment}"
            yield Problem("ntfs-name-dangling", text)
            return
        home = self.volume.record(directory)
        wanted = home.reference if home is not None else directory
        fields = _KEY.unpack_from(entry.key)
        if fields[_PARENT] != wanted:
            yield Problem("ntfs-name-differs", f"{shown} says that it is in directory {segment_of(fields[_PARENT])}")
        if not any(_same_name(value, entry.key) for value in names_of(file)):
            yield Problem("ntfs-name-differs", f"{shown} leads to MFT record {segment}, which has another name")
        yield from self._sizes(shown, file, fields)

    def _held(self, file: CheckedFile, value: bytes, parent: int, namespace: int) -> Iterator[Problem]:
        """One name of a file: the directory that it names is there, and has it."""
        segment = segment_of(parent)
        name = utf16(value[_KEY.size :])
        home = self.volume.record(segment)
        index = self.directory(segment)
        if home is None or not home.in_use or index is None:
            yield Problem("ntfs-name-differs", f"'{name}' of MFT record {file.segment} is in {segment}, no directory")
            return
        if home.reference != parent:
            text = f"'{name}' of MFT record {file.segment} is in an earlier use of directory {segment}"
            yield Problem("ntfs-name-differs", text)
        entry = index.by_name().get((file.base.reference, value[_KEY.size :]))
        if entry is None:
            text = f"'{name}' of MFT record {file.segment} is not in directory {segment}"
            yield Problem("ntfs-name-missing", text)
        elif _KEY.unpack_from(entry.key)[_NAMESPACE] != namespace:
            text = f"'{name}' of MFT record {file.segment} is of another namespace in directory {segment}"
            yield Problem("ntfs-name-differs", text)
        else:
            yield from self._sizes(f"'{name}' in directory {segment}", file, _KEY.unpack_from(entry.key))

    def _sizes(self, shown: str, file: CheckedFile, fields: tuple[int, ...]) -> Iterator[Problem]:
        """Size, allocated size and kind in an entry of a directory against the file's own."""
        if file.segment < FIRST_USER_RECORD:
            return  # Windows keeps no such facts of the file system's own files
        if bool(fields[_ATTRIBUTES] & IS_DIRECTORY) != file.base.is_directory:
            yield Problem("ntfs-name-differs", f"{shown} is a directory on one side and none on the other")
        data = file.pieces(DATA)
        if file.base.is_directory or not data:
            return
        first = data[0]
        allocated = first.allocated if first.stored is None else first.stored
        same = (fields[_SIZE], fields[_ALLOCATED]) == (first.size, allocated)
        if not same and not (self._lagging and self._may_lag(file)):
            told, true = f"{fields[_SIZE]} of {fields[_ALLOCATED]}", f"{first.size} of {allocated}"
            yield Problem("ntfs-size-differs", f"{shown} says {told} bytes, the file says {true}")

    def _may_lag(self, file: CheckedFile) -> bool:
        long_names = [value for value in names_of(file) if value[_NAMESPACE_AT : _NAMESPACE_AT + 1] != _DOS]
        return len(long_names) > 1 or below_extend(self.volume, file)


def _same_name(left: bytes, right: bytes) -> bool:
    """Parent, namespace and spelling; a directory's copy of times and sizes may be newer."""
    if len(left) < _KEY.size:
        return False
    one, other = _KEY.unpack_from(left), _KEY.unpack_from(right)
    return (
        one[_PARENT] == other[_PARENT]
        and one[_NAMESPACE] == other[_NAMESPACE]
        and left[_KEY.size :] == right[_KEY.size :]
    )


def removed(before: CheckedIndex | None, after: CheckedIndex | None) -> Iterable[CheckedEntry]:
    """The entries that a directory lost."""
    left = set() if after is None else set(after.by_name())
    return [] if before is None else [entry for key, entry in before.by_name().items() if key not in left]


def added(before: CheckedIndex | None, after: CheckedIndex | None) -> Iterable[CheckedEntry]:
    """The entries that a directory got, or whose facts changed."""
    known = {} if before is None else before.by_name()
    return [] if after is None else [entry for key, entry in after.by_name().items() if known.get(key) != entry]
