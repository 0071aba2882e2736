"""What the worker does on a mounted volume: make, write, resize and remove files, each trap of the library avoided.

The traps, and what is done about each (all were met; the tests name them):

- A directory is opened once, each child from it (:meth:`MountedVolume._enter`), and a child is closed by
  ``ntfs_inode_close_in_dir``: the same directory in memory twice loses index entries.
- Free clusters are looked for from the same place before each operation, because the library goes on 4096 clusters
  with each file, and every file would touch another block of the image.
- A new file never has the library's own default descriptor (everyone, full control).
- Long names are in the POSIX name space. So are those that Windows makes where it makes no 8.3 names, and the further
  names of its hard links.
- $DATA is opened by the library's own empty name, and the answer is checked: by length 0 alone it takes a named stream.
- A file grows by ``ntfs_attr_truncate_solid``: the plain call makes it sparse.
- New directories lose the ARCHIVE attribute that the library gives them.
- Compression is switched off for what is made in a compressed directory, and compressed files are refused.

After any failure the process has to end: the library's error paths crash.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from vhdtool.fs import ntfs3g_library as abi
from vhdtool.fs.ntfs3g_library import Library
from vhdtool.fs.worker_wire import PIECE, UNCHANGED

ROOT: Final = 5
FIRST_USER_RECORD: Final = 24
NOT_FOUND: Final = (1 << 64) - 1
NUMBER: Final = (1 << 48) - 1  # of a reference; above it is the sequence number
ARCHIVE, SPARSE, REPARSE, COMPRESSED, ENCRYPTED = 0x20, 0x200, 0x400, 0x800, 0x4000
DATA_COMPRESSED, DATA_ENCRYPTED, DATA_SPARSE = 0x00FF, 0x4000, 0x8000
DOS = 2
SECURITY_LIMIT: Final = 0x10000
_EMPTY: Final = bytes(PIECE)


class FileError(Exception):
    """What was asked for can't be done. ``code`` is that of the error that the writer raises; ``number`` an errno."""

    def __init__(self, code: str, what: str, number: int = 0) -> None:
        super().__init__(code, what, number)
        self.code = code
        self.what = what
        self.number = number


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a file: in UTF-16, in which directory, in which name space."""

    text: bytes
    folder: int
    space: int


class MountedVolume:
    """A mounted volume. Names are in UTF-16; ``inherit`` turns a directory's descriptor into that of a new child."""

    def __init__(self, library: Library, volume: Any, inherit: Callable[[bytes, bool], bytes]) -> None:
        self._library = library
        self._volume = volume
        self._inherit = inherit
        self._start = int(volume.contents.first_data_position)
        self._cache = ctypes.c_void_p()
        self._context = abi.SecurityContext(volume=volume, cache=ctypes.pointer(self._cache))
        self._upper: Any = None
        volume.contents.state &= ~abi.NV_COMPRESSION

    def make_directory(self, names: Sequence[bytes], security: bytes) -> None:
        """Make a directory in one that is there."""
        self._begin()
        folder = self._folder(names[:-1])
        if self._look_up(folder, names[-1]) is not None:
            raise FileError("name-taken", "something has this name already", errno.EEXIST)
        made = self._create(folder, names[-1], security, directory=True)
        self._close(made, folder)
        self._close(folder)

    def put(
        self,
        names: Sequence[bytes],
        size: int,
        modified: int,
        security: bytes,
        content: Callable[[int, memoryview], None],
    ) -> None:
        """Make a file or replace its content; ``content`` fills a buffer from an offset."""
        self._begin()
        folder = self._folder(names[:-1])
        number = self._look_up(folder, names[-1])
        if number is None:
            inode = self._create(folder, names[-1], security, directory=False)
        else:
            inode = self._open(number)
            self._require_plain_file(inode)
            if self._links(inode) > 1:
                inode, folder = self._replace(inode, folder, names, security)
            else:
                self._change_flags(inode, inode.contents.flags | ARCHIVE)
                if security:
                    self._secure(inode, security)
        self._write(inode, size, content)
        self._stamp(inode, modified)
        self._close(inode, folder)
        self._touch_folder(folder)
        self._close(folder)

    def resize(self, names: Sequence[bytes], size: int) -> None:
        """Make a file longer, by zeros that are on the volume, or shorter."""
        self._begin()
        folder = self._folder(names[:-1])
        inode = self._open_existing(folder, names[-1])
        self._require_plain_file(inode)
        data = self._open_data(inode)
        old, initialized = int(data.contents.data_size), int(data.contents.initialized_size)
        if size > old:
            self._grow(data, size)
            for offset in range(min(old, initialized), size, PIECE):
                length = min(PIECE, size - offset)
                if self._library.ntfs_attr_pwrite(data, offset, length, _EMPTY) != length:
                    self._fail("write the file's new end")
        elif size < old and self._library.ntfs_attr_truncate(data, size):
            self._fail("make the file shorter")
        self._library.ntfs_attr_close(data)
        self._stamp(inode, UNCHANGED)
        self._close(inode, folder)
        self._close(folder)

    def remove(self, names: Sequence[bytes]) -> None:
        """Take a name of a file away, and the file with its last one; or an empty directory."""
        self._begin()
        folder = self._folder(names[:-1])
        inode = self._open_existing(folder, names[-1])
        self._require_user_file(inode)
        if self._library.ntfs_check_empty_dir(inode):
            if ctypes.get_errno() == errno.ENOTEMPTY:
                raise FileError("directory-not-empty", "the directory is not empty", errno.ENOTEMPTY)
            self._fail("read the directory")
        self._delete(inode, folder, names[-1])

    def unmount(self) -> None:
        """Write what the library still holds, and end it."""
        if self._library.ntfs_umount(self._volume, 0):
            self._fail("unmount the volume")

    def _begin(self) -> None:
        self._volume.contents.first_data_position = self._start
        self._volume.contents.full_zones = 0

    def _given(self, pointer: Any, what: str) -> Any:
        """A pointer that the library gave, if it is one."""
        if not pointer:
            self._fail(what)
        return pointer

    def _fail(self, what: str) -> NoReturn:
        number = ctypes.get_errno()
        code = "volume-full" if number in (errno.ENOSPC, errno.EDQUOT) else "ntfs-writer-failed"
        raise FileError(code, f"libntfs-3g can't {what}", number)

    def _open(self, number: int) -> Any:
        return self._given(self._library.ntfs_inode_open(self._volume, number), "open a file record")

    def _close(self, inode: Any, folder: Any = None) -> None:
        library = self._library
        failed = library.ntfs_inode_close_in_dir(inode, folder) if folder else library.ntfs_inode_close(inode)
        if failed:
            self._fail("write a file record")

    def _look_up(self, folder: Any, name: bytes) -> int | None:
        ctypes.set_errno(0)
        reference = int(self._library.ntfs_inode_lookup_by_name(folder, name, len(name) // 2))
        if reference != NOT_FOUND:
            return reference
        if ctypes.get_errno() not in (0, errno.ENOENT):
            self._fail("look a name up")
        return None

    def _folder(self, names: Sequence[bytes]) -> Any:
        """Open the directory that ``names`` lead to; the ones above it are closed again."""
        folder = self._open(ROOT)
        for name in names:
            number = self._look_up(folder, name)
            if number is None:
                raise FileError("no-such-folder", "there is no such directory", errno.ENOENT)
            below = self._enter(number)
            self._close(folder)
            folder = below
        return folder

    def _enter(self, number: int) -> Any:
        inode = self._open(number)
        if inode.contents.flags & REPARSE:
            raise FileError("reparse-on-path", "the path leads through a link")
        if not inode.contents.record.contents.flags & abi.IS_DIRECTORY:
            raise FileError("not-a-directory", "this is no directory", errno.ENOTDIR)
        return inode

    def _open_existing(self, folder: Any, name: bytes) -> Any:
        number = self._look_up(folder, name)
        if number is None:
            raise FileError("no-such-file", "there is no such file", errno.ENOENT)
        return self._open(number)

    def _require_user_file(self, inode: Any) -> None:
        if inode.contents.number < FIRST_USER_RECORD:
            raise FileError("file-system-file", "this is one of the file system's own files")

    def _require_plain_file(self, inode: Any) -> None:
        """What the caller has checked by the volume's bytes is checked again by what the library makes of them."""
        self._require_user_file(inode)
        flags = int(inode.contents.flags)
        directory = inode.contents.record.contents.flags & abi.IS_DIRECTORY
        for bit, code, what in (
            (REPARSE, "file-reparse", "a reparse point"),
            (ENCRYPTED, "file-encrypted", "encrypted (EFS)"),
            (COMPRESSED, "file-compressed", "compressed (LZNT1)"),
            (SPARSE, "file-sparse", "sparse"),
        ):
            if flags & bit and (bit == REPARSE or not directory):
                raise FileError(code, f"the file is {what}")
        if directory:
            raise FileError("not-a-file", "this is a directory", errno.EISDIR)

    def _open_data(self, inode: Any) -> Any:
        opened = self._library.ntfs_attr_open(inode, abi.AT_DATA, self._library.unnamed, 0)
        data = self._given(opened, "open the file's content")
        facts = data.contents
        if facts.type != abi.AT_DATA or facts.name_length:
            raise FileError("ntfs-writer-failed", "libntfs-3g opened another stream than the file's content")
        if facts.flags & DATA_ENCRYPTED:
            raise FileError("file-encrypted", "the file's content is encrypted (EFS)")
        if facts.flags & DATA_SPARSE:
            raise FileError("file-sparse", "the file's content is sparse")
        if facts.flags & DATA_COMPRESSED:
            raise FileError("file-compressed", "the file's content is compressed (LZNT1)")
        return data

    def _create(self, folder: Any, name: bytes, security: bytes, *, directory: bool, kept_security: int = 0) -> Any:
        """Make a file or directory; ``kept_security`` is the number of a descriptor that the volume has already."""
        if not security and not kept_security:
            security = self._inherit(self._security_of(folder), directory)
        made = self._library.ntfs_create(
            folder,
            kept_security or folder.contents.security_id,
            name,
            len(name) // 2,
            abi.DIRECTORY if directory else abi.REGULAR,
        )
        inode = self._given(made, "make the file")
        if security:
            self._secure(inode, security)
        if directory:
            self._change_flags(inode, inode.contents.flags & ~ARCHIVE)
        self._touch_folder(folder)
        return inode

    def _replace(self, inode: Any, folder: Any, names: Sequence[bytes], security: bytes) -> tuple[Any, Any]:
        """Take this name away from a file that has others, and make a new file of that name.

        The new one has the old one's descriptor, attributes and time of creation. Returns it and the directory,
        which were closed and opened anew.
        """
        kept, flags, created = inode.contents.security_id, inode.contents.flags, inode.contents.created
        if not kept and not security:
            security = self._security_of(inode)
        name = self._delete(inode, folder, names[-1])
        folder = self._folder(names[:-1])
        made = self._create(folder, name, security, directory=False, kept_security=kept)
        self._change_flags(made, flags | ARCHIVE)
        times = created.to_bytes(8, "little")
        if self._library.ntfs_inode_set_times(made, times, len(times), 0):
            self._fail("set the file's times")
        return made, folder

    def _delete(self, inode: Any, folder: Any, name: bytes) -> bytes:
        """Take a name away; return it as the directory spells it. The library closes both, whatever happens."""
        stored = self._stored_name(inode, folder, name)
        if self._library.ntfs_delete(self._volume, None, inode, folder, stored, len(stored) // 2):
            self._fail("remove the file")
        return stored

    def _write(self, inode: Any, size: int, content: Callable[[int, memoryview], None]) -> None:
        """Write the whole content, in the clusters that the file has, and further ones where it is longer."""
        data = self._open_data(inode)
        old = int(data.contents.data_size)
        if size > old:
            self._grow(data, size)
        buffer = ctypes.create_string_buffer(min(PIECE, max(size, 1)))
        view = memoryview(buffer).cast("B")
        for offset in range(0, size, PIECE):
            length = min(PIECE, size - offset)
            content(offset, view[:length])
            if self._library.ntfs_attr_pwrite(data, offset, length, buffer) != length:
                self._fail("write the file")
        if size < old and self._library.ntfs_attr_truncate(data, size):
            self._fail("give the file its size")
        self._library.ntfs_attr_close(data)

    def _grow(self, data: Any, size: int) -> None:
        """Give content a larger size and the clusters for it.

        In one step where that goes. The library takes one free range from each part of the bitmap that it looks at,
        so what is in many small pieces it can't have at once, and says that the volume is full: then half is tried.
        """
        cluster = int(self._volume.contents.cluster_size)
        reached = int(data.contents.data_size)
        step = size - reached
        while reached < size:
            step = min(step, size - reached)
            if self._library.ntfs_attr_truncate_solid(data, reached + step) == 0:
                reached += step
                step *= 2
                continue
            if ctypes.get_errno() != errno.ENOSPC or step <= cluster:
                self._fail("give the file its size")
            step = max(cluster, step // 2)
            self._volume.contents.full_zones = 0

    def _stamp(self, inode: Any, modified: int) -> None:
        self._library.ntfs_inode_update_times(inode, abi.UPDATE_MODIFIED)
        if modified != UNCHANGED:
            times = inode.contents.created.to_bytes(8, "little") + modified.to_bytes(8, "little")
            if self._library.ntfs_inode_set_times(inode, times, len(times), 0):
                self._fail("set the file's times")

    def _touch_folder(self, folder: Any) -> None:
        self._library.ntfs_inode_update_times(folder, abi.UPDATE_MODIFIED)

    def _change_flags(self, inode: Any, flags: int) -> None:
        value = flags.to_bytes(4, "little")
        if self._library.ntfs_set_ntfs_attrib(inode, value, len(value), 0):
            self._fail("set the file's attributes")

    def _secure(self, inode: Any, security: bytes) -> None:
        if self._library.ntfs_set_ntfs_acl(self._context, inode, security, len(security), 0):
            self._fail("set the file's security descriptor")

    def _security_of(self, inode: Any) -> bytes:
        size = self._library.ntfs_get_ntfs_acl(self._context, inode, None, 0)
        if not 0 < size <= SECURITY_LIMIT:
            self._fail("read a security descriptor")
        buffer = ctypes.create_string_buffer(size)
        if self._library.ntfs_get_ntfs_acl(self._context, inode, buffer, size) != size:
            self._fail("read a security descriptor")
        return buffer.raw

    def _names(self, inode: Any) -> Iterator[Name]:
        """All names of a file."""
        search = self._given(self._library.ntfs_attr_get_search_ctx(inode, None), "read the file's names")
        fixed = abi.NAME_AT
        while not self._library.ntfs_attr_lookup(abi.AT_FILE_NAME, None, 0, 0, 0, None, 0, search):
            header = search.contents.attribute.contents
            value = ctypes.addressof(header) + header.value_offset
            if header.non_resident or header.value_length < fixed or header.value_offset + fixed > header.length:
                raise FileError("ntfs-writer-failed", "a name of the file is damaged")
            facts = abi.FileName.from_address(value)
            if fixed + 2 * facts.length > header.value_length:
                raise FileError("ntfs-writer-failed", "a name of the file is damaged")
            yield Name(ctypes.string_at(value + fixed, 2 * facts.length), facts.parent & NUMBER, facts.namespace)
        if ctypes.get_errno() != errno.ENOENT:
            self._fail("read the file's names")
        self._library.ntfs_attr_put_search_ctx(search)

    def _links(self, inode: Any) -> int:
        """How many names a file has; the 8.3 form of a name does not count."""
        return sum(name.space != DOS for name in self._names(inode))

    def _stored_name(self, inode: Any, folder: Any, wanted: bytes) -> bytes:
        """The name of a file in a directory as it is spelled there, long where there are two."""
        here = [name for name in self._names(inode) if name.folder == folder.contents.number]
        same = [name for name in here if name.text == wanted]
        if not same:
            folded = self._fold(wanted)
            same = [name for name in here if self._fold(name.text) == folded]
        if not same:
            raise FileError("ntfs-writer-failed", "the file does not know itself by the name that its directory has")
        if same[0].space == DOS:
            same = [name for name in here if name.space == 1] or same
        return same[0].text

    def _fold(self, name: bytes) -> bytes:
        """A name in upper case, by the volume's own table."""
        if self._upper is None:
            inode = self._open(10)
            data = self._open_data(inode)
            table = (ctypes.c_uint16 * (abi.UPCASE_SIZE // 2))()
            if self._library.ntfs_attr_pread(data, 0, abi.UPCASE_SIZE, table) != abi.UPCASE_SIZE:
                self._fail("read $UpCase")
            self._library.ntfs_attr_close(data)
            self._close(inode)
            self._upper = table
        units = memoryview(name).cast("H")
        return b"".join(int(self._upper[unit]).to_bytes(2, "little") for unit in units)


def describe(number: int) -> str:
    """The system's words for an errno; empty for none."""
    return os.strerror(number) if number else ""
