"""ext2/3/4, XFS and Btrfs through dissect; what dissect gets wrong about holes is put right here.

dissect.extfs reads block 0 of the volume where a block-mapped file has a hole in its double indirect blocks or at
its end; dissect.xfs returns old disk contents for extents that are allocated but unwritten. Both give wrong bytes
without an error, so the run lists of these two are made here.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.disk.device import BlockDevice
from vhdtool.errors import UnsupportedError
from vhdtool.fs.base import Extent, FileStat
from vhdtool.fs.boundary import MeteredStream
from vhdtool.fs.dissect_fs import Node
from vhdtool.fs.runs import Run, RunStream, damaged

MAX_LINK = 4096  # bytes of a link's target (PATH_MAX)
MAX_DIRECTORY = 512 * 1024 * 1024  # bytes
MAX_INLINE = 65536
MAX_POINTER_BLOCKS = 65536  # of a block-mapped file: 256 GiB with blocks of 4 KiB

_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}


class _Inodes:
    """What the three have in common: dissect's inode objects look alike."""

    ignores_case = False
    backslash = False

    def __init__(self, device: BlockDevice, meter: MeteredStream) -> None:
        self._device = device
        self._meter = meter

    def children(self, node: Node) -> Iterator[Node]:
        """The entries of a directory."""
        if node.handle.size > MAX_DIRECTORY:
            raise damaged("a directory is too large", node.name, found=node.handle.size)
        for child in node.handle.iterdir():
            if child.filename not in (".", ".."):
                yield Node(child.filename, child)

    def facts(self, node: Node) -> FileStat:
        """Facts of one inode."""
        self._meter.allow(0)
        inode = node.handle
        kind = _KINDS.get(self._type(inode), "other")
        target = None
        if kind == "symlink":
            if inode.size > MAX_LINK:
                raise damaged("a link's target is too long", node.name, found=inode.size)
            target = str(inode.link)
        return FileStat(
            name=node.name,
            kind=kind,
            size=int(inode.size) if kind == "file" else 0,
            record=int(inode.inum),
            modified=_modified(inode),
            storage=self._storage(inode) if kind == "file" else None,
            link_target=target,
        )

    def _type(self, inode: Any) -> int:
        return stat.S_IFMT(int(inode.inode.i_mode))

    def _storage(self, _inode: Any) -> str | None:
        return None


class ExtDriver(_Inodes):
    """One ext2, ext3 or ext4 volume. The journal is not replayed."""

    kind = "ext"

    def __init__(self, device: BlockDevice, meter: MeteredStream) -> None:
        super().__init__(device, meter)
        from dissect.extfs import extfs  # noqa: PLC0415  # see open_dissect

        self._fs = extfs.ExtFS(meter)
        self._c = extfs.c_ext

    def label(self) -> str | None:
        """The label that the superblock holds."""
        return str(self._fs.volume_name) or None

    def root(self) -> Node:
        """The root directory."""
        return Node("", self._fs.root)

    def stream(self, node: Node, path: str) -> ByteSource:
        """The bytes of a file."""
        inode = node.handle
        flags = inode.inode.i_flags
        size, block_size = int(inode.size), int(self._fs.block_size)
        if flags & self._c.EXT4_INLINE_DATA_FL:
            if size > len(inode.inode.i_block):
                raise UnsupportedError("inline-data", "the file's data goes on in its attributes", path=path)
            return BytesSource(bytes(inode.inode.i_block)[:size])
        if flags & self._c.EXT4_EXTENTS_FL:
            runs: list[Run] = _normal(inode.dataruns())
        else:
            runs = _BlockMap(self._device, block_size, bytes(inode.inode.i_block)).runs(-(-size // block_size), path)
        return RunStream(self._device, runs, block_size, size=size, initialized=size, what=path)

    def _storage(self, inode: Any) -> str | None:
        return "encrypted" if inode.inode.i_flags & self._c.EXT4_ENCRYPT_FL else None


class XfsDriver(_Inodes):
    """One XFS volume. The log is not replayed."""

    kind = "xfs"

    def __init__(self, device: BlockDevice, meter: MeteredStream) -> None:
        super().__init__(device, meter)
        from dissect.xfs import xfs  # noqa: PLC0415  # see open_dissect

        self._xfs = xfs
        self._fs = xfs.XFS(meter)

    def label(self) -> str | None:
        """The label that the superblock holds."""
        return str(self._fs.name) or None

    def root(self) -> Node:
        """The root directory."""
        return Node("", self._fs.root)

    def stream(self, node: Node, path: str) -> ByteSource:
        """The bytes of a file."""
        inode = node.handle
        size, block_size = int(inode.size), int(self._fs.block_size)
        if inode.inode.di_format == self._xfs.c_xfs.xfs_dinode_fmt.XFS_DINODE_FMT_LOCAL:
            return BytesSource(inode.open().read(min(size, MAX_INLINE)))
        if inode.inode.di_flags & self._xfs.c_xfs.XFS_DIFLAG_REALTIME:
            raise UnsupportedError("realtime-file", "the file lies on the realtime device", path=path)
        runs: list[Run] = []
        at = 0
        for offset, block, count, unwritten in inode._iter_blocks():
            if offset > at:
                runs.append((None, offset - at))
            group, number = self._xfs.fsb_to_bb(block, self._fs.sb.sb_agblklog)
            runs.append((None if unwritten else group * self._fs.sb.sb_agblocks + number, count))
            at = offset + count
        runs.append((None, max(0, -(-size // block_size) - at)))
        return RunStream(self._device, _normal(runs), block_size, size=size, initialized=size, what=path)

    def _type(self, inode: Any) -> int:
        return stat.S_IFMT(int(inode.inode.di_mode))


class BtrfsDriver(_Inodes):
    """One Btrfs volume on a single device; the default subvolume is the root, or with ``top`` the one above all."""

    kind = "btrfs"

    def __init__(self, device: BlockDevice, meter: MeteredStream, *, top: bool = False) -> None:
        super().__init__(device, meter)
        from dissect.btrfs import btrfs  # noqa: PLC0415  # see open_dissect

        meter.allow(0)
        self._fs = btrfs.Btrfs(meter)
        self._top = top

    def label(self) -> str | None:
        """The label that the superblock holds."""
        return str(self._fs.label) or None

    def root(self) -> Node:
        """The root of the subvolume that is seen."""
        return Node("", self._fs.fs_tree.root if self._top else self._fs.root)

    def children(self, node: Node) -> Iterator[Node]:
        """The entries of a directory; a subvolume is one."""
        for name, child in node.handle.iterdir():
            if name not in (".", ".."):
                yield Node(name, child)

    def stream(self, node: Node, path: str) -> ByteSource:  # the driver's common signature
        """The bytes of a file, decompressed where it is compressed."""
        return _StreamSource(node.handle.open(), int(node.handle.size))

    def _type(self, inode: Any) -> int:
        return stat.S_IFMT(int(inode.mode))


class _StreamSource:
    """A stream of dissect's as a byte source."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream = stream
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        self._stream.seek(offset)
        return bytes(self._stream.read(length))

    def extents(self) -> tuple[Extent, ...]:
        return ()


class _BlockMap:
    """Twelve direct blocks, then one, two and three levels of blocks of pointers (Linux, fs/ext2/inode.c)."""

    DIRECT = 12

    def __init__(self, device: BlockDevice, block_size: int, pointers: bytes) -> None:
        self._device = device
        self._block_size = block_size
        self._pointers = struct.unpack("<15I", pointers)
        self._read = 0
        self._most = min(MAX_POINTER_BLOCKS, device.size // block_size)  # each is used once

    def runs(self, blocks: int, path: str) -> list[Run]:
        found: list[Run] = []
        per_block = self._block_size // 4
        for pointer in self._pointers[: min(blocks, self.DIRECT)]:
            _add(found, pointer, 1)
        left = blocks - min(blocks, self.DIRECT)
        for level in (1, 2, 3):
            covered = min(left, per_block**level)
            self._level(found, self._pointers[self.DIRECT + level - 1], level, covered, path)
            left -= covered
        if left:
            raise damaged("a file is larger than its blocks can say", path)
        return found

    def _level(self, found: list[Run], pointer: int, level: int, blocks: int, path: str) -> None:
        if blocks <= 0:
            return
        if pointer == 0:
            _add(found, 0, blocks)
            return
        self._read += 1
        if self._read > self._most:
            raise damaged("a file has too many blocks of pointers", path)
        data = self._device.read_at(pointer * self._block_size, self._block_size)
        if len(data) < self._block_size:
            raise damaged("a block of pointers lies beyond the volume", path, found=pointer)
        each = (self._block_size // 4) ** (level - 1)
        for (child,) in struct.iter_unpack("<I", data):
            if blocks <= 0:
                return
            if level == 1:
                _add(found, child, 1)
            else:
                self._level(found, child, level - 1, min(blocks, each), path)
            blocks -= each


def _add(runs: list[Run], pointer: int, count: int) -> None:
    """Append blocks, joined to the run before where they continue it; pointer 0 is a hole."""
    first = pointer or None
    if runs:
        before, length = runs[-1]
        if (before is None and first is None) or (before is not None and before + length == first):
            runs[-1] = (before, length + count)
            return
    runs.append((first, count))


def _normal(runs: list[tuple[int | None, int]]) -> list[Run]:
    """Run lists without empty runs; a negative one means extents out of order."""
    if any(count < 0 for _, count in runs):
        raise ValueError("the extents of a file overlap")
    return [(first, count) for first, count in runs if count]


def _modified(inode: Any) -> datetime | None:
    try:
        found: datetime = inode.mtime
    except (OverflowError, ValueError):
        return None
    return found
