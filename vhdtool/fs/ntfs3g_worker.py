"""The process that writes NTFS: libntfs-3g, the socket to the writer, and nothing else.

``vhdtool.fs.worker_process`` starts it with the socket as its standard input. It loads the library, shuts itself in
(:mod:`vhdtool.fs.sandbox`), tells what it has, and only then asks for the first byte of the volume. The library reaches
its device through callbacks, which ask the writer for each range.

Where the socket breaks, or a callback meets anything it does not expect, the process ends at once, from within the
callback: an error given back to the library would make it run its error paths, and those crash or write on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

from vhdtool.fs import ntfs3g_library as abi
from vhdtool.fs.ntfs3g_volume import FileError, MountedVolume, describe
from vhdtool.fs.sandbox import attempts, enter
from vhdtool.fs.worker_wire import Channel, Kind, Layer, Message, WireError, pack_facts, pack_fields, unpack_fields

KEPT_LINES: Final = 8
LONGEST_LINE: Final = 512
BOOT_SECTOR: Final = 512


class Worker:
    """Answers one command after the other until the last."""

    def __init__(self, descriptor: int) -> None:
        self._channel = Channel(descriptor, gone=_end)
        self._library: abi.Library | None = None
        self._sandbox: dict[str, str] = {}
        self._mounted: MountedVolume | None = None
        self._device: Any = None
        self._size = 0
        self._position = 0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        # Made before the process is shut in: they need memory that can be executed. Kept: the library points at them.
        self._log = abi.LOG_HANDLER(_guarded(self._keep_line, self._die))
        self._operations = abi.Operations(
            open=abi.OPEN(_guarded(self._open, self._die)),
            close=abi.CLOSE(_guarded(self._do_nothing, self._die)),
            seek=abi.SEEK(_guarded(self._seek, self._die)),
            read=abi.MOVE(_guarded(self._read, self._die)),
            write=abi.MOVE(_guarded(self._write, self._die)),
            pread=abi.MOVE_AT(_guarded(self._pread, self._die)),
            pwrite=abi.MOVE_AT(_guarded(self._pwrite, self._die)),
            sync=abi.SYNC(_guarded(self._do_nothing, self._die)),
            stat=abi.STAT(_guarded(self._refuse, self._die)),
            ioctl=abi.IOCTL(_guarded(self._refuse, self._die)),
        )
        self._libc = ctypes.CDLL(None)

    def run(self) -> NoReturn:
        """Answer until ``FINISH`` is answered, something fails, or the other side is gone."""
        commands: dict[Kind, Callable[[Message], dict[str, str]]] = {
            Kind.LOAD: self._load,
            Kind.MOUNT: self._mount,
            Kind.CHECK: self._check,
            Kind.MAKE_DIRECTORY: self._make_directory,
            Kind.PUT: self._put,
            Kind.RESIZE: self._resize,
            Kind.REMOVE: self._remove,
            Kind.FINISH: self._finish,
        }
        while True:
            message = self._channel.receive()
            command = commands.get(message.kind)
            if command is None:
                self._die(WireError(f"{message.kind.name} is no command"))
            try:
                facts = command(message)
            except FileError as error:
                self._tell(error.code, error.what, error.number)
            except BaseException as error:  # the last word of this process
                self._die(error)
            self._channel.send(Kind.DONE, pack_facts(facts))
            if message.kind is Kind.FINISH:
                self._channel.flush()
                _end()

    def _load(self, message: Message) -> dict[str, str]:
        names = [field.decode() for field in unpack_fields(message.payload)]
        library, faults = abi.load(names or abi.candidates())
        if library is None:
            raise FileError("ntfs-3g-missing", faults)
        facts = {"soname": library.soname, "library": library.path, "passed-over": faults}
        library.ntfs_set_char_encoding(b"utf8")  # the locale is never asked
        library.ntfs_log_set_handler(self._log)
        self._library = library
        describe(errno.EIO)
        self._sandbox = enter(Layer(message.first))
        return facts | self._sandbox

    def _check(self, _: Message) -> dict[str, str]:
        shut = self._sandbox.get("seccomp", "none") != "none" or self._sandbox.get("landlock", "none") != "none"
        return attempts(execute=shut)

    def _mount(self, message: Message) -> dict[str, str]:
        library = self._loaded()
        self._size = message.first
        boot_sector = bytearray(BOOT_SECTOR)
        if self._channel.ask_into(Kind.READ, 0, memoryview(boot_sector)) != BOOT_SECTOR:
            raise FileError("ntfs-3g-refuses", "the volume has no boot sector")
        self._device = library.ntfs_device_alloc(b"volume", 0, ctypes.byref(self._operations), None)
        if not self._device:
            raise FileError("ntfs-writer-failed", "libntfs-3g can't make a device", ctypes.get_errno())
        volume = library.ntfs_device_mount(self._device, 0)  # never MS_MAYBE_RDONLY: such mounts lie
        if not volume:
            raise FileError("ntfs-3g-refuses", "libntfs-3g does not mount the volume", ctypes.get_errno())
        if volume.contents.state & abi.NV_READ_ONLY:
            raise FileError("ntfs-3g-refuses", "libntfs-3g mounts the volume read-only", errno.EROFS)
        try:
            abi.check_layout(library, volume, bytes(boot_sector), self._size)
        except abi.LayoutError as error:
            raise FileError("ntfs-3g-unknown", f"libntfs-3g is laid out in another way: {error}") from error
        if library.ntfs_set_ignore_case(volume):
            raise FileError("ntfs-writer-failed", "libntfs-3g can't ignore case", ctypes.get_errno())
        self._mounted = MountedVolume(library, volume, self._inherit)
        return {}

    def _make_directory(self, message: Message) -> dict[str, str]:
        security, *names = unpack_fields(message.payload)
        self._volume().make_directory(names, security)
        return {}

    def _put(self, message: Message) -> dict[str, str]:
        security, *names = unpack_fields(message.payload)
        self._volume().put(names, message.first, message.second, security, self._content)
        return {}

    def _resize(self, message: Message) -> dict[str, str]:
        _, *names = unpack_fields(message.payload)
        self._volume().resize(names, message.first)
        return {}

    def _remove(self, message: Message) -> dict[str, str]:
        _, *names = unpack_fields(message.payload)
        self._volume().remove(names)
        return {}

    def _finish(self, _: Message) -> dict[str, str]:
        if self._mounted is not None:
            self._mounted.unmount()
        return {}

    def _loaded(self) -> abi.Library:
        if self._library is None:
            raise WireError("nothing is loaded")
        return self._library

    def _volume(self) -> MountedVolume:
        if self._mounted is None:
            raise WireError("nothing is mounted")
        return self._mounted

    def _content(self, offset: int, buffer: memoryview) -> None:
        if self._channel.ask_into(Kind.CONTENT, offset, buffer) != len(buffer):
            raise FileError("ntfs-writer-failed", "the content is shorter than it was said to be")

    def _inherit(self, security: bytes, directory: bool) -> bytes:
        return self._channel.ask(Kind.INHERIT, int(directory), security)

    # What the library calls.

    def _open(self, device: Any, _flags: int) -> int:
        device.contents.state |= abi.DEVICE_OPEN
        return 0

    def _do_nothing(self, *_: Any) -> int:
        return 0

    def _refuse(self, *_: Any) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    def _seek(self, _device: Any, offset: int, whence: int) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def _read(self, device: Any, buffer: int, count: int) -> int:
        done = self._pread(device, buffer, count, self._position)
        self._position += done
        return done

    def _write(self, device: Any, buffer: int, count: int) -> int:
        done = self._pwrite(device, buffer, count, self._position)
        self._position += done
        return done

    def _pread(self, _device: Any, buffer: int, count: int, offset: int) -> int:
        count = min(count, self._size - offset)
        if offset < 0 or count <= 0:
            return 0
        done = 0
        view = memoryview((ctypes.c_char * count).from_address(buffer)).cast("B")
        while done < count:
            got = self._channel.ask_into(Kind.READ, offset + done, view[done : done + (1 << 20)])
            if not got:
                raise WireError("a block of the volume was not given")
            done += got
        return done

    def _pwrite(self, _device: Any, buffer: int, count: int, offset: int) -> int:
        if offset < 0 or count < 0 or offset + count > self._size:
            raise WireError(f"the library writes {count} bytes at {offset}, outside the volume")
        if count:
            self._channel.write_block(offset, memoryview((ctypes.c_char * count).from_address(buffer)).cast("B"))
        return count

    def _keep_line(self, *details: Any) -> int:
        text, arguments = details[5], details[6]
        buffer = ctypes.create_string_buffer(LONGEST_LINE)
        self._libc.vsnprintf(buffer, ctypes.c_size_t(LONGEST_LINE), ctypes.c_char_p(text), ctypes.c_void_p(arguments))
        self._lines.append(buffer.value.decode("utf-8", "replace").strip())
        return 0

    def _tell(self, code: str, what: str, number: int) -> NoReturn:
        facts = {"library-says": " | ".join(line for line in self._lines if line), "errno": describe(number)}
        fields = [code.encode(), what.encode("utf-8", "replace"), pack_facts(facts)]
        self._channel.send(Kind.FAILED, pack_fields(fields), first=number)
        self._channel.flush()
        _end()

    def _die(self, error: BaseException) -> NoReturn:
        self._tell("ntfs-writer-failed", f"the worker met {type(error).__name__}: {error}", 0)


def _guarded(callback: Callable[..., int], die: Callable[[BaseException], NoReturn]) -> Callable[..., int]:
    """Keep every exception, also KeyboardInterrupt, from reaching C: it would look like 0, the end of the file."""

    def guarded(*arguments: Any) -> int:
        try:
            return callback(*arguments)
        except BaseException as error:  # see above
            die(error)

    return guarded


def _end() -> NoReturn:
    """End at once: no library code, no clean-up, nothing written."""
    os._exit(0)


def main(descriptor: int = 0) -> NoReturn:
    """Work for the socket ``descriptor``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the writer's business; it ends this process
    Worker(descriptor).run()
