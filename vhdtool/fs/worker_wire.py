"""What the NTFS writer and its worker process say to each other, over one socket.

A message is a header of 24 bytes, then its payload. The worker imports this before anything else is there, so it needs
nothing beyond the standard library's cheapest modules, and ``struct`` declares the header: ``construct`` alone takes
longer to import than the worker may take to start.

The writer sends one command; until the worker answers it (``DONE`` or ``FAILED``), the worker asks and the writer
serves: blocks of the volume, content of the file that is put, the descriptor of a new file. Only ``WRITE`` has no
answer: a write that can't be taken ends the worker.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

HEADER: Final = struct.Struct("<BxxxIQQ")
"""Kind, length of the payload, and two numbers whose meaning the kind says."""
LONGEST_PAYLOAD: Final = 4 << 20
PIECE: Final = 1 << 20
"""Content is asked for, and long writes are sent, in pieces of this many bytes."""
UNCHANGED: Final = (1 << 64) - 1
"""A time that is not given."""

_COUNT: Final = struct.Struct("<I")


class Kind(IntEnum):
    """What a message is. Numbers: the first, the second; payload."""

    # From the writer.
    LOAD = 1  # layers of the sandbox, -; fields: names of the library to try
    MOUNT = 2  # size of the volume in bytes, -; -
    CHECK = 3  # -, -; -
    MAKE_DIRECTORY = 4  # -, -; fields: descriptor, names of the path
    PUT = 5  # size, modification time as FILETIME or UNCHANGED; fields: descriptor, names of the path
    RESIZE = 6  # size, -; fields: -, names of the path
    REMOVE = 7  # -, -; fields: -, names of the path
    FINISH = 8  # -, -; -
    ANSWER = 9  # -, -; what was asked for
    # From the worker.
    READ = 32  # volume offset, length; -
    WRITE = 33  # volume offset, -; the bytes
    CONTENT = 34  # file offset, length; -
    INHERIT = 35  # 1 for a directory, -; the directory's descriptor
    DONE = 36  # -, -; facts
    FAILED = 37  # number of the error, -; fields: code, what was done, facts


COMMANDS: Final = frozenset(kind for kind in Kind if kind < Kind.ANSWER)
QUESTIONS: Final = frozenset((Kind.READ, Kind.CONTENT, Kind.INHERIT))


class Layer(IntFlag):
    """One way of shutting the worker in (:mod:`vhdtool.fs.sandbox`). Only tests leave some out."""

    NONE = 0
    LIMITS = 1
    LANDLOCK = 2
    SECCOMP = 4
    ALL = 7


class WireError(Exception):
    """The other side said something that makes no sense, or is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it came."""

    kind: Kind
    first: int = 0
    second: int = 0
    payload: bytes | bytearray = b""


def header(kind: Kind, length: int = 0, first: int = 0, second: int = 0) -> bytes:
    """Return the header of a message with ``length`` bytes of payload."""
    if length > LONGEST_PAYLOAD:
        raise WireError(f"a payload of {length} bytes is too long")
    return HEADER.pack(kind, length, first, second)


def parse_header(data: bytes | bytearray | memoryview) -> tuple[Kind, int, int, int]:
    """Return kind, length of the payload, first and second number. Raises :class:`WireError`."""
    number, length, first, second = HEADER.unpack(data)
    try:
        kind = Kind(number)
    except ValueError:
        raise WireError(f"message {number} is not known") from None
    if length > LONGEST_PAYLOAD:
        raise WireError(f"a payload of {length} bytes is too long")
    return kind, length, first, second


def pack_fields(fields: Iterable[bytes]) -> bytes:
    """Put byte strings behind each other, each after its length."""
    return b"".join(_COUNT.pack(len(field)) + field for field in fields)


def unpack_fields(data: bytes | bytearray) -> list[bytes]:
    """Take apart what :func:`pack_fields` made. Raises :class:`WireError`."""
    fields = []
    position = 0
    while position < len(data):
        if position + _COUNT.size > len(data):
            raise WireError("a field is cut off")
        (length,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        if position + length > len(data):
            raise WireError("a field is cut off")
        fields.append(bytes(data[position : position + length]))
        position += length
    return fields


def pack_facts(facts: dict[str, str]) -> bytes:
    """Put named texts into a payload."""
    return pack_fields(text.encode("utf-8", "replace") for pair in facts.items() for text in pair)


def unpack_facts(data: bytes | bytearray) -> dict[str, str]:
    """Take apart what :func:`pack_facts` made. Raises :class:`WireError`."""
    texts = [field.decode("utf-8", "replace") for field in unpack_fields(data)]
    if len(texts) % 2:
        raise WireError("a fact has no text")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def pack_path(names: Sequence[str], security: bytes | None = None) -> bytes:
    """Put a descriptor and the names of a path into a payload; names may hold any 16-bit units, as NTFS's may."""
    encoded = [name.encode("utf-16-le", "surrogatepass") for name in names]
    return pack_fields([security or b"", *encoded])


class Channel:
    """The worker's end of the socket: plain reads and writes on a file descriptor.

    Writes of blocks are gathered and sent together. ``gone`` is called when the other side is gone; it does not return.
    """

    GATHERED: Final = 128 << 10

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._fd = descriptor
        self._gone = gone
        self._waiting = bytearray()

    def receive(self) -> Message:
        """Wait for the next message."""
        self.flush()
        head = bytearray(HEADER.size)
        self._fill(memoryview(head))
        kind, length, first, second = parse_header(head)
        payload = bytearray(length)
        self._fill(memoryview(payload))
        return Message(kind, first, second, payload)

    def ask_into(self, kind: Kind, first: int, buffer: memoryview) -> int:
        """Ask for bytes and put the answer into ``buffer``; return how many came."""
        self.send(kind, first=first, second=len(buffer))
        self.flush()
        head = bytearray(HEADER.size)
        self._fill(memoryview(head))
        answer, length, _, _ = parse_header(head)
        if answer is not Kind.ANSWER or length > len(buffer):
            raise WireError(f"the answer to {kind.name} is {answer.name} with {length} bytes")
        self._fill(buffer[:length])
        return length

    def ask(self, kind: Kind, first: int, payload: bytes) -> bytes:
        """Ask with some bytes; return the answer."""
        self.send(kind, payload, first=first)
        answer = self.receive()
        if answer.kind is not Kind.ANSWER:
            raise WireError(f"the answer to {kind.name} is {answer.kind.name}")
        return bytes(answer.payload)

    def send(self, kind: Kind, payload: bytes = b"", *, first: int = 0, second: int = 0) -> None:
        """Put a message behind what waits to be sent."""
        self._waiting += header(kind, len(payload), first, second)
        self._waiting += payload

    def write_block(self, offset: int, data: memoryview) -> None:
        """Send a write; it is on its way at the latest when the worker waits again."""
        while data:
            piece = data[:PIECE]
            self._waiting += header(Kind.WRITE, len(piece), offset)
            if len(piece) < self.GATHERED:
                self._waiting += piece
                if len(self._waiting) >= self.GATHERED:
                    self.flush()
            else:
                self.flush()
                self._drain(piece)
            offset += len(piece)
            data = data[PIECE:]

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            self._drain(memoryview(self._waiting))
            self._waiting = bytearray()

    def _drain(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:
                self._gone()

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            try:
                got = os.readv(self._fd, [buffer])
            except OSError:
                got = 0
            if not got:
                self._gone()
            buffer = buffer[got:]
