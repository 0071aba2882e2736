"""The boundary to the DER parser: what it raises on damaged bytes becomes one error of this package.

asn1crypto parses lazily, so that a fault deep inside shows when a field is asked for. Everything that touches its
objects runs inside :func:`reading`, and what leaves there is plain data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vhdtool.errors import DamagedError

MAX_SIZE = 16 << 20
"""Longest catalog that is parsed, in bytes. A listed file takes some 150, and the largest updates have 40,000."""
MAX_ELEMENTS = 1_000_000
MAX_CHILDREN = 4096
"""Most elements of one list, but for the files of a catalog."""
MEMBERS_DEPTH = 8
"""How deep the files of a catalog are nested, the outermost element being 1."""
MAX_DEPTH = 128
"""Deepest nesting; a signature nested in a signature adds eight."""
_CONSTRUCTED = 0x20
_HINT = "The file is damaged: copy it again from where it came from."


@contextmanager
def reading(what: str, path: str | None = None) -> Iterator[None]:
    """Guard calls into asn1crypto: :class:`DamagedError` ``der-damaged`` for whatever it raises on damaged bytes."""
    try:
        yield
    except (
        ValueError,  # a tag or a length that does not fit; a date that is none; text that can't be decoded
        TypeError,  # a value where another kind was declared
        KeyError,  # a choice or an enumeration without that number
        IndexError,
        AttributeError,  # a field whose parsed form is of another class
        OverflowError,
        RecursionError,  # lengths left open, nested without end
        NotImplementedError,
    ) as error:
        raise DamagedError(
            "der-damaged",
            f"{what} can't be read: {_first_line(error)}",
            path=path,
            hint=_HINT,
        ) from error


def whole_element(data: bytes, what: str, path: str | None = None, *, largest: int = MAX_SIZE) -> bytes:
    """Return the DER element that ``data`` begins with, after a look at every header in it.

    asn1crypto makes an object of every element of a list as soon as one is asked for. So the number of elements, and
    how deep they are nested, is checked here first, at a cost that grows with the bytes alone.

    Raises:
        DamagedError: ``der-damaged``: it is longer than ``data`` or ``largest``, an element reaches beyond the one it
            is in, a length is left open (BER), or there are more elements than any genuine file has.
    """
    if not data:
        raise _damaged(f"{what} is empty", path)
    _, end = _header(data, 0, len(data), what, path)
    if end > largest:
        raise _damaged(f"{what} is too long", path, f"at most {largest} bytes", end)
    count, offset, open_ends, children = 0, 0, [end], [0]
    while open_ends:
        if offset == open_ends[-1]:
            open_ends.pop()
            children.pop()
            continue
        count += 1
        children[-1] += 1
        depth = len(open_ends)
        if count > MAX_ELEMENTS or depth > MAX_DEPTH or (children[-1] > MAX_CHILDREN and depth != MEMBERS_DEPTH):
            raise _damaged(f"{what} has too many elements", path, f"at most {MAX_ELEMENTS}, {MAX_DEPTH} deep")
        start, stop = _header(data, offset, open_ends[-1], what, path)
        if data[offset] & _CONSTRUCTED:
            open_ends.append(stop)
            children.append(0)
            offset = start
        else:
            offset = stop
    return data[:end]


def elements(contents: bytes) -> Iterator[bytes]:
    """Yield the elements of a list, given its contents; to be called within :func:`reading`, on what was checked."""
    offset = 0
    while offset < len(contents):
        _, stop = _header(contents, offset, len(contents), "a list", None)
        yield contents[offset:stop]
        offset = stop


def _header(data: bytes, offset: int, limit: int, what: str, path: str | None) -> tuple[int, int]:
    """Where the contents of the element at ``offset`` start and end."""
    if limit - offset < 2 or data[offset] & 0x1F == 0x1F:  # nothing here has tags beyond 30
        raise _damaged(f"{what} is cut off, or is no DER", path, offset=offset)
    length, start = data[offset + 1], offset + 2
    if length & 0x80:
        start += length & 0x7F
        if not 0 < length & 0x7F <= 4 or start > limit:
            raise _damaged(f"{what} is cut off, or is no DER", path, offset=offset)
        length = int.from_bytes(data[offset + 2 : start], "big")
    if start + length > limit:
        raise _damaged(f"{what} is cut off", path, f"{length} bytes", limit - start, offset=offset)
    return start, start + length


def _damaged(
    message: str, path: str | None, expected: object = None, found: object = None, offset: int | None = None
) -> DamagedError:
    where = "" if offset is None else f" (byte {offset} of it)"
    return DamagedError("der-damaged", message + where, path=path, expected=expected, found=found, hint=_HINT)


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
