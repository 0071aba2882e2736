"""The names of the files in an initramfs: cpio archives, the first of them often plain, the main one packed.

Linux, Documentation/driver-api/early-userspace/buffer-format.rst: archives follow each other, with zero bytes between
them; each is plain or packed as a whole. Contents are skipped, never kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import construct as c

from vhdtool.bytesource import ByteSource
from vhdtool.errors import DamagedError, UnsupportedError
from vhdtool.guest.linux_unpack import CHUNK, PackedStream, packed_with
from vhdtool.layout import packed

# Linux kernel, Documentation/driver-api/early-userspace/buffer-format.rst: 13 numbers of 8 hexadecimal digits.
CPIO_HEADER = c.Struct(
    "magic" / c.Bytes(6),
    c.Padding(40),  # inode, mode, owner, group, links
    c.Padding(8),  # time
    "file_size" / c.Bytes(8),
    c.Padding(32),  # device numbers
    "name_size" / c.Bytes(8),
    c.Padding(8),  # checksum
)
_HEADER = packed(CPIO_HEADER)
MAGICS = (b"070701", b"070702")
TRAILER = b"TRAILER!!!"
LONGEST_NAME = 4096  # PATH_MAX
MOST_FILES = 500_000
MOST_UNPACKED = 1 << 30
MOST_PACKED = 512 << 20

_CONTENT = re.compile(rb"[^\0]")
_MODULE = re.compile(rb"(?:^|/)lib/modules/([^/]+)/(?:.*/)?([^/]+)\.ko(?:\.gz|\.xz|\.zst)?$")


@dataclass(frozen=True, slots=True)
class InitramfsContent:
    """What an initramfs holds. ``modules`` are pairs of kernel release and module name, with ``_`` for ``-``.

    ``unpacked``: how many bytes its packed parts unpack to.
    """

    compression: str
    files: int
    modules: frozenset[tuple[str, str]]
    unpacked: int


def read_initramfs(source: ByteSource, *, path: str | None = None, most: int = MOST_UNPACKED) -> InitramfsContent:
    """Read the names of all modules in an initramfs that unpacks to no more than ``most`` bytes.

    Raises :class:`DamagedError` ``initramfs-damaged``, ``truncated``, ``packed-data-damaged``; and
    :class:`UnsupportedError` ``initramfs-too-large``, ``compression-unknown``.
    """
    if source.size > MOST_PACKED:
        raise _too_large(path)
    names = _Names(path, most)
    compression = "none"
    position = 0
    while (start := _skip_padding(source, position)) is not None:
        head = source.read_at(start, 16)
        kind = packed_with(head)
        if kind is None:
            if not head.startswith(MAGICS):
                raise _damaged("there is neither an archive nor packed data", path, start)
            position = names.plain(source, start)
            continue
        stream = PackedStream(source, start, kind, path=path)
        names.packed(stream.pieces())
        compression = kind
        position = source.size if stream.end is None else stream.end
    if not names.archives:
        raise _damaged("it holds no archive", path, 0)
    return InitramfsContent(compression, names.files, frozenset(names.modules), names.unpacked)


class _Names:
    """Collects names over all archives, and holds all of them to one measure."""

    def __init__(self, path: str | None, most: int) -> None:
        self.files = 0
        self.archives = 0
        self.modules: set[tuple[str, str]] = set()
        self._path = path
        self._most = most
        self.unpacked = 0

    def plain(self, source: ByteSource, start: int) -> int:
        """Walk a plain archive; return the offset behind it. What is in its files is never read."""
        position = start
        while position < source.size:
            head = source.read_at(position, _HEADER.size + LONGEST_NAME)
            entry = self._entry(head, position)
            position += entry.length
            if entry.last:
                return min(position, source.size)
            if position > source.size:
                raise _damaged("a file reaches beyond the end", self._path, position)
        self.archives += 1
        return position

    def packed(self, pieces: Iterator[bytes]) -> None:
        """Walk the archives in a packed stream; there may be several, and padding between them."""
        buffer = bytearray()
        skip = 0
        between = True
        for piece in pieces:
            self.unpacked += len(piece)
            if self.unpacked > self._most:
                raise _too_large(self._path)
            if skip >= len(piece):
                skip -= len(piece)
                continue
            buffer += memoryview(piece)[skip:]
            skip = 0
            at = 0
            while True:
                if between:
                    found = _CONTENT.search(buffer, at)
                    at = len(buffer) if found is None else found.start()
                if not _has_entry(buffer, at):
                    break
                entry = self._entry(bytes(buffer[at : at + _HEADER.size + LONGEST_NAME]), at)
                between = entry.last
                at += entry.length
                if at > len(buffer):
                    skip = at - len(buffer)
                    at = len(buffer)
                    break
            del buffer[:at]
        if buffer or skip:
            raise _damaged("the packed archive is cut off", self._path, 0)
        self.archives += not between  # the kernel does without the last entry, too

    def _entry(self, head: bytes, position: int) -> _Entry:
        if len(head) < _HEADER.size:
            raise _damaged("a header is cut off", self._path, position)
        magic, size, name_size = _HEADER.unpack_from(head)
        if magic not in MAGICS:
            raise _damaged("there is no header where one belongs", self._path, position)
        try:
            content, length = int(size, 16), int(name_size, 16)
        except ValueError as error:
            raise _damaged("a header holds no number", self._path, position) from error
        if not 0 < length <= LONGEST_NAME or content < 0:
            raise _damaged("a name has an impossible length", self._path, position)
        name = head[_HEADER.size : _HEADER.size + length - 1]
        if len(name) < length - 1:
            raise _damaged("a name is cut off", self._path, position)
        last = name == TRAILER
        if last:
            self.archives += 1
            content = 0
        else:
            self._note(name)
        return _Entry(_aligned(_HEADER.size + length) + _aligned(content), last)

    def _note(self, name: bytes) -> None:
        self.files += 1
        if self.files > MOST_FILES:
            raise _too_large(self._path)
        match = _MODULE.search(name)
        if match is not None:
            release, module = (part.decode("utf-8", errors="replace") for part in match.groups())
            self.modules.add((release, module.replace("-", "_")))


@dataclass(frozen=True, slots=True)
class _Entry:
    length: int
    last: bool


def _has_entry(buffer: bytearray, at: int) -> bool:
    """Whether a header and its name are all there; one that is no header is, so that it is told."""
    if len(buffer) - at < _HEADER.size:
        return False
    magic, _, name_size = _HEADER.unpack_from(buffer, at)
    try:
        length = int(name_size, 16)
    except ValueError:
        return True
    return magic not in MAGICS or not 0 < length <= LONGEST_NAME or len(buffer) - at >= _HEADER.size + length


def _skip_padding(source: ByteSource, position: int) -> int | None:
    """The offset of the next byte that is not zero; ``None`` at the end."""
    while position < source.size:
        data = source.read_at(position, CHUNK)
        if not data:
            return None
        found = _CONTENT.search(data)
        if found is not None:
            return position + found.start()
        position += len(data)
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _damaged(text: str, path: str | None, offset: int) -> DamagedError:
    return DamagedError(
        "initramfs-damaged",
        f"the initramfs is damaged: {text}",
        path=path,
        offset=offset,
        hint="Make it again in the guest: update-initramfs -u, dracut -f or mkinitcpio -P.",
    )


def _too_large(path: str | None) -> UnsupportedError:
    return UnsupportedError(
        "initramfs-too-large",
        "the initramfs is larger than any that a kernel could unpack",
        path=path,
        expected=f"at most {MOST_PACKED} bytes, {MOST_UNPACKED} unpacked, {MOST_FILES} files",
    )
