"""Registry values read as what they are meant to be; ``None`` where a value is absent or of another type."""

from __future__ import annotations

from vhdtool.registry.hive import Key


def number(key: Key | None, name: str) -> int | None:
    """An integer (REG_DWORD, either byte order, or REG_QWORD)."""
    data = _data(key, name)
    return data if isinstance(data, int) else None


def text(key: Key | None, name: str) -> str | None:
    """A string that is not empty; of a list of strings the first (Windows XP keeps some that way)."""
    data = _data(key, name)
    if isinstance(data, tuple):
        data = next((part for part in data if isinstance(part, str) and part), None)
    return whole_text(data) or None if isinstance(data, str) else None


def texts(key: Key | None, name: str) -> tuple[str, ...]:
    """A list of strings; a single string counts as a list of one."""
    data = _data(key, name)
    if isinstance(data, str):
        data = (data,)
    if not isinstance(data, tuple):
        return ()
    return tuple(whole_text(part) for part in data if isinstance(part, str) and part)


def binary(key: Key | None, name: str) -> bytes | None:
    """The raw bytes of a value of any type."""
    value = None if key is None else key.value(name)
    return None if value is None else value.raw


def whole_text(written: str) -> str:
    """The text with each half of a surrogate pair that stands alone replaced: a result document can't hold one."""
    if written.isascii():
        return written
    return written.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _data(key: Key | None, name: str) -> object:
    value = None if key is None else key.value(name)
    return None if value is None else value.data
