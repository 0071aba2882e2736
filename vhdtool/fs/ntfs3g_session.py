"""The writer's side of a worker: gives commands, serves the blocks of the volume, turns failures into our errors."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import WritableDevice
from vhdtool.errors import RefusedError, UsageError, VhdtoolError
from vhdtool.fs.file_names import refuse_name
from vhdtool.fs.ntfs3g_failures import TESTED, failed, no_library_for_windows, told_by_worker, unknown_library
from vhdtool.fs.paths import join_path, split_path
from vhdtool.fs.worker_process import WorkerProcess
from vhdtool.fs.worker_wire import (
    LONGEST_PAYLOAD,
    UNCHANGED,
    Kind,
    Layer,
    Message,
    WireError,
    pack_fields,
    pack_path,
    unpack_facts,
)
from vhdtool.fs.writer import Sandbox, WriterReport
from vhdtool.progress import SILENT, Progress

EPOCH: Final = datetime(1601, 1, 1, tzinfo=UTC)


class NtfsSession:
    """A :class:`vhdtool.fs.writer.FileWriter` over one worker.

    ``tested`` and ``names`` (of the library) and ``layers`` (of the sandbox) are for tests; so is ``process``.
    """

    def __init__(
        self,
        *,
        progress: Progress = SILENT,
        names: tuple[str, ...] = (),
        layers: Layer = Layer.ALL,
        process: WorkerProcess | None = None,
    ) -> None:
        self._progress = progress
        self._process = process if process is not None else WorkerProcess()
        self._device: WritableDevice | None = None
        self._content: ByteSource | None = None
        self._requests = 0
        self._bytes_read = 0
        self._bytes_written = 0
        self._over = False
        self._facts: dict[str, str] = {}
        self._facts = self._command("start", Kind.LOAD, pack_fields(name.encode() for name in names), first=layers)

    def __enter__(self) -> Self:
        """Give the session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the worker."""
        self.abort()

    @property
    def soname(self) -> str:
        """What the library was found by."""
        return self._facts.get("soname", "")

    @property
    def library(self) -> str:
        """Where the library lies."""
        return self._facts.get("library", "")

    def sandbox(self, *, tried: bool = False) -> Sandbox:
        """How the worker is shut in; with ``tried`` it is told to try to get out."""
        found = self._command("check", Kind.CHECK) if tried else {}
        return Sandbox(
            limits=self._facts.get("limits", "none"),
            landlock=self._facts.get("landlock", "none"),
            seccomp=self._facts.get("seccomp", "none"),
            opening=found.get("open", ""),
            connecting=found.get("connect", ""),
            executing=found.get("execute", ""),
        )

    def mount(self, device: WritableDevice) -> None:
        """Mount the volume. Raises :class:`RefusedError` ``ntfs-3g-refuses``."""
        self._device = device
        self._command("mount", Kind.MOUNT, first=device.size)

    def make_directory(self, path: str, *, security: bytes | None = None) -> None:
        """As :meth:`vhdtool.fs.writer.FileWriter.make_directory`."""
        names = self._names(path, new=True)
        self._command(join_path(names), Kind.MAKE_DIRECTORY, pack_path(names, security))

    def put(
        self, path: str, content: ByteSource, *, security: bytes | None = None, modified: datetime | None = None
    ) -> None:
        """As :meth:`vhdtool.fs.writer.FileWriter.put`."""
        names = self._names(path, new=True)
        size = content.size
        self._content = content
        self._progress.start(join_path(names), size)
        try:
            self._command(
                join_path(names),
                Kind.PUT,
                pack_path(names, security),
                first=size,
                second=UNCHANGED if modified is None else filetime_of(modified),
            )
        finally:
            self._content = None
            self._progress.finish()

    def resize(self, path: str, size: int) -> None:
        """As :meth:`vhdtool.fs.writer.FileWriter.resize`."""
        if not 0 <= size < 1 << 63:
            raise ValueError("a file's size is a positive 63-bit number")
        names = self._names(path)
        self._command(join_path(names), Kind.RESIZE, pack_path(names), first=size)

    def remove(self, path: str) -> None:
        """As :meth:`vhdtool.fs.writer.FileWriter.remove`."""
        names = self._names(path)
        self._command(join_path(names), Kind.REMOVE, pack_path(names))

    def finish(self) -> WriterReport:
        """As :meth:`vhdtool.fs.writer.FileWriter.finish`."""
        self._command("unmount", Kind.FINISH)
        self.abort()
        return WriterReport(
            requests=self._requests,
            bytes_read=self._bytes_read,
            bytes_written=self._bytes_written,
            library=self.library,
            soname=self.soname,
            sandbox=self.sandbox(),
        )

    def abort(self) -> None:
        """As :meth:`vhdtool.fs.writer.FileWriter.abort`."""
        self._over = True
        self._process.stop()

    def _names(self, path: str, *, new: bool = False) -> list[str]:
        names = split_path(path)
        if ".." in names:
            raise UsageError("path-with-dots", "a path to write to is told without '..'", path=path)
        if not names:
            raise RefusedError("file-system-file", "the root of a volume is not written", path=path)
        if new:
            refuse_name(names[-1], join_path(names))
        return names

    def _command(
        self, what: str, kind: Kind, payload: bytes = b"", *, first: int = 0, second: int = 0
    ) -> dict[str, str]:
        """Give a command and serve the worker until it is done. Whatever goes wrong ends the worker first."""
        if self._over:
            raise failed("it has ended already", what)
        try:
            self._process.send(kind, payload, first=first, second=second)
            while True:
                message = self._process.receive()
                self._requests += 1
                if message.kind is Kind.DONE:
                    return unpack_facts(message.payload)
                if message.kind is Kind.FAILED:
                    raise told_by_worker(message, what, self.soname)
                self._serve(message)
        except WireError as error:
            self.abort()
            raise failed(str(error), what) from error
        except BaseException:  # also Ctrl-C, and what the device or the content raises
            self.abort()
            raise

    def _serve(self, message: Message) -> None:
        answers: dict[Kind, Callable[[Message], None]] = {
            Kind.READ: self._serve_read,
            Kind.WRITE: self._serve_write,
            Kind.CONTENT: self._serve_content,
            Kind.INHERIT: self._serve_inherit,
        }
        answer = answers.get(message.kind)
        if answer is None:
            raise WireError(f"it said {message.kind.name}")
        answer(message)

    def _mounted(self) -> WritableDevice:
        if self._device is None:
            raise WireError("it asks for a volume that it was not given")
        return self._device

    def _serve_read(self, message: Message) -> None:
        device = self._mounted()
        offset, length = message.first, message.second
        if length > LONGEST_PAYLOAD or offset + length > device.size:
            raise WireError(f"it reads {length} bytes at {offset}")
        buffer = bytearray(length)
        got = device.read_into(offset, memoryview(buffer))
        self._bytes_read += got
        self._process.send(Kind.ANSWER, memoryview(buffer)[:got])

    def _serve_write(self, message: Message) -> None:
        device = self._mounted()
        offset, length = message.first, len(message.payload)
        if offset + length > device.size:
            raise WireError(f"it writes {length} bytes at {offset}")
        device.write_at(offset, message.payload)
        self._bytes_written += length

    def _serve_content(self, message: Message) -> None:
        content, offset, length = self._content, message.first, message.second
        if content is None or length > LONGEST_PAYLOAD or offset + length > content.size:
            raise WireError(f"it asks for {length} bytes of content at {offset}")
        self._process.send(Kind.ANSWER, content.read_at(offset, length))
        self._progress.advance(length)

    def _serve_inherit(self, message: Message) -> None:
        from vhdtool.fs.security_descriptor import inherited, parse_descriptor  # noqa: PLC0415  # new files only

        folder = parse_descriptor(bytes(message.payload))
        self._process.send(Kind.ANSWER, inherited(folder, directory=bool(message.first)).to_bytes())


def open_session(
    device: WritableDevice, *, progress: Progress = SILENT, tested: tuple[str, ...] = TESTED
) -> NtfsSession:
    """Start a worker and mount a volume in it; a library that is not in ``tested`` has to pass the self-test first."""
    _require_host()
    session = NtfsSession(progress=progress)
    try:
        if session.soname not in tested:
            self_test(session.soname)
        session.mount(device)
    except BaseException:
        session.abort()
        raise
    return session


def probe() -> tuple[str, str, bool, Sandbox]:
    """Return the library's place, its SONAME, whether that was tested, and how the worker is shut in."""
    _require_host()
    with NtfsSession() as session:
        tested = session.soname in TESTED
        if not tested:
            self_test(session.soname)
        return session.library, session.soname, tested, session.sandbox(tried=True)


@functools.cache
def self_test(soname: str) -> None:
    """Have a library write into a small volume that comes with this package, and read it with our own reader.

    Raises :class:`MissingSupportError` ``ntfs-3g-unknown``. Passed once, it counts while this process runs.
    """
    from vhdtool.fs.ntfs3g_self_test import run_self_test  # noqa: PLC0415  # only for libraries that are not known

    try:
        with NtfsSession() as session:
            fault = run_self_test(session)
    except VhdtoolError as error:
        fault = str(error)
    if fault is not None:
        raise unknown_library(soname, fault)


def filetime_of(moment: datetime) -> int:
    """A time as NTFS keeps it: tenths of microseconds since 1601. Raises :class:`ValueError` before that, and naive."""
    ticks = (moment - EPOCH) // timedelta(microseconds=1) * 10
    if ticks < 0:
        raise ValueError("NTFS has no times before 1601")
    return ticks


def _require_host() -> None:
    if sys.platform == "win32":
        raise no_library_for_windows()
