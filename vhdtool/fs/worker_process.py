"""Starts the NTFS worker and holds the other end of its socket: the only place here where a process is started."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from vhdtool.errors import MissingSupportError
from vhdtool.fs.worker_wire import HEADER, Kind, Message, WireError, header, parse_header

SILENCE: Final = 60.0
"""Seconds without a word after which a worker that has something to do is taken to hang; 0.5 s was the longest seen."""
_GATHERED: Final = 256 << 10
_START: Final = "import sys; sys.path.append(sys.argv[1]); from vhdtool.fs.ntfs3g_worker import main; main()"


class WorkerEndedError(WireError):
    """The worker is gone, or says nothing any more."""


class WorkerProcess:
    """One worker. It has this socket as its standard input, /dev/null twice, no environment, and no other file."""

    def __init__(self, *, silence: float = SILENCE) -> None:
        if not sys.executable:
            raise MissingSupportError(
                "no-python-executable",
                "the NTFS writer runs in a process of its own, and this Python can't be started again",
                hint="Run vhdtool with a Python interpreter that knows its own path (sys.executable).",
            )
        self._socket, theirs = socket.socketpair()
        try:
            # -I and -S: no environment, no user's or site's modules. Only where this package lies is added.
            command = (sys.executable, "-I", "-S", "-c", _START, str(Path(__file__).resolve().parents[2]))
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  # fixed words and our own path
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise MissingSupportError(
                "no-python-executable",
                f"the NTFS writer's process can't be started: {error.strerror}",
                path=sys.executable,
                hint="Check that this user may run another Python process.",
            ) from error
        finally:
            theirs.close()
        self._socket.settimeout(silence)
        self._silence = silence
        self._stream = io.BufferedReader(socket.SocketIO(self._socket, "r"), _GATHERED)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def send(self, kind: Kind, payload: bytes | memoryview = b"", *, first: int = 0, second: int = 0) -> None:
        """Send a message. Raises :class:`WorkerEndedError`."""
        try:
            self._socket.sendall(header(kind, len(payload), first, second))
            if payload:
                self._socket.sendall(payload)
        except OSError as error:
            raise self._ended(error) from error

    def receive(self) -> Message:
        """Wait for the next message. Raises :class:`WorkerEndedError`, :class:`WireError`."""
        try:
            head = self._stream.read(HEADER.size)
            if len(head) < HEADER.size:
                raise self._ended(None)
            kind, length, first, second = parse_header(head)
            payload = bytearray(length)
            view = memoryview(payload)
            while view:
                got = self._stream.readinto(view)
                if not got:
                    raise self._ended(None)
                view = view[got:]
        except OSError as error:
            raise self._ended(error) from error
        return Message(kind, first, second, payload)

    def stop(self) -> None:
        """End it, whatever it does; a second call does nothing."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._stream.close()
        self._socket.close()

    def _ended(self, error: OSError | None) -> WorkerEndedError:
        if isinstance(error, TimeoutError):
            return WorkerEndedError(f"it said nothing for {self._silence:g} seconds")
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return WorkerEndedError("it closed its socket")
        if status >= 0:
            return WorkerEndedError(f"it ended with status {status}")
        try:
            return WorkerEndedError(f"it was ended by {signal.Signals(-status).name}")
        except ValueError:
            return WorkerEndedError(f"it was ended by signal {-status}")
