"""The seam behind which files of a guest are made, made longer, replaced and removed.

There is one engine: libntfs-3g, in a process of its own that has the socket to us and nothing else
(:mod:`vhdtool.fs.ntfs3g_session`). Another may come behind the same protocol. What an engine writes goes into the
device it was opened on, an overlay, and is read again by others before any of it reaches an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from vhdtool.bytesource import ByteSource
from vhdtool.disk.device import WritableDevice
from vhdtool.errors import VhdtoolError
from vhdtool.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How the worker is shut in. ``landlock``: version of the kernel's interface, or ``none``.

    ``seccomp``: ``filter`` or ``none``. ``opening``, ``connecting`` and ``executing`` say how the worker's own try
    ended: an error's name (``EPERM``), ``allowed``, ``not-tried``; empty where it was not asked to try.
    """

    limits: str
    landlock: str
    seccomp: str
    opening: str = ""
    connecting: str = ""
    executing: str = ""

    @property
    def closed(self) -> bool:
        """Whether the kernel keeps the worker from files, or from every system call it does not need."""
        return self.landlock != "none" or self.seccomp != "none"


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What a finished writer did. ``requests`` counts messages of the worker; bytes are those of the volume."""

    requests: int
    bytes_read: int
    bytes_written: int
    library: str
    soname: str
    sandbox: Sandbox


@dataclass(frozen=True, slots=True)
class WriterSupport:
    """What of this host can write NTFS, for ``vhdtool doctor``.

    ``state``: ``ok``; ``limited``: it works, but this kernel can't shut it in; ``missing``. ``tested`` tells that the
    library's version is one that was tested at length, and not only by the self-test.
    """

    state: Literal["ok", "limited", "missing"]
    library: str | None
    soname: str | None
    tested: bool
    sandbox: Sandbox | None
    message: str
    hint: str | None


class FileWriter(Protocol):
    r"""Changes the files of one NTFS volume. Paths from its root, with ``/`` or ``\``; names without regard to case.

    After any error the writer is dead, and what its device holds is not to be used: every call that failed has ended
    the engine before it raised. The caller ends with :meth:`finish` or :meth:`abort`.

    Every call raises:
        OutputError: ``ntfs-writer-failed`` (it crashed, hangs, or can't go on), ``volume-full``.
        RefusedError: ``name-not-allowed``, ``file-system-file``, ``reparse-on-path``, and where a file's bytes are
            not stored plainly ``file-reparse``, ``file-compressed``, ``file-sparse``, ``file-encrypted``.
        NotFoundError: ``no-such-folder``, ``not-a-directory``.
        UsageError: ``path-with-dots``.
    """

    def make_directory(self, path: str, *, security: bytes | None = None) -> None:
        """Make a directory in one that is there.

        ``security`` is a self-relative descriptor; without it the directory inherits as in Windows
        (:func:`vhdtool.fs.security_descriptor.inherited`). Raises :class:`RefusedError` ``name-taken``.
        """

    def put(
        self, path: str, content: ByteSource, *, security: bytes | None = None, modified: datetime | None = None
    ) -> None:
        """Make a file, or replace the content of one.

        A new file inherits its descriptor unless ``security`` is given. A file that is there keeps descriptor,
        attributes, time of creation and further streams; but one that has further names (hard links) only loses
        this name, and a new file takes it, with the descriptor, attributes and time of creation of the old one.
        ``modified`` is the time of modification, now by default. Raises :class:`RefusedError` ``not-a-file``.
        """

    def resize(self, path: str, size: int) -> None:
        """Make a file ``size`` bytes long; new bytes are zeros that are on the volume, not only promised.

        Raises :class:`NotFoundError` ``no-such-file``, :class:`RefusedError` ``not-a-file``.
        """

    def remove(self, path: str) -> None:
        """Remove a file (this name of it), a link, or an empty directory.

        Raises :class:`NotFoundError` ``no-such-file``, :class:`RefusedError` ``directory-not-empty``.
        """

    def finish(self) -> WriterReport:
        """Unmount the volume and end the engine; everything is in the device then."""

    def abort(self) -> None:
        """End the engine at once; a second call, and one after :meth:`finish`, does nothing."""


def open_writer(device: WritableDevice, *, progress: Progress = SILENT) -> FileWriter:
    """Mount the NTFS volume ``device`` in a worker process.

    The state of the volume has to be checked before, by :func:`vhdtool.fs.fitness.refuse_unfit_volume`.

    Raises:
        MissingSupportError: ``ntfs-3g-missing``, ``ntfs-3g-unknown`` (a version that fails the self-test),
            ``no-python-executable``.
        RefusedError: ``ntfs-3g-refuses`` (it does not mount the volume).
        OutputError: ``ntfs-writer-failed``.
    """
    from vhdtool.fs.ntfs3g_session import open_session  # noqa: PLC0415  # most commands write no file

    return open_session(device, progress=progress)


def writer_support() -> WriterSupport:
    """Start a worker, have it load the library, shut itself in and try to get out; tell how that went."""
    from vhdtool.fs.ntfs3g_session import probe  # noqa: PLC0415  # as above

    try:
        library, soname, tested, sandbox = probe()
    except VhdtoolError as error:
        return WriterSupport("missing", None, None, tested=False, sandbox=None, message=error.message, hint=error.hint)
    if sandbox.closed:
        return WriterSupport("ok", library, soname, tested, sandbox, "files can be written", None)
    return WriterSupport(
        "limited",
        library,
        soname,
        tested,
        sandbox,
        "files can be written, but the kernel has neither Landlock nor seccomp to shut the library in",
        "Write into images that you don't trust on Linux 5.13 or later.",
    )
