"""Reparse points: symbolic links, junctions, compressed system files (WOF), and what must not be read past.

MS-FSCC sections 2.1.2.1 (tags), 2.1.2.4 (symbolic links), 2.1.2.5 (mount points).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import construct as c

from vhdtool.errors import UnsupportedError
from vhdtool.fs.runs import damaged

MOUNT_POINT = 0xA0000003
SYMLINK = 0xA000000C
LX_SYMLINK = 0xA000001D
WOF = 0x80000017
NAME_SURROGATE = 0x20000000  # the tag's bit: the file stands for another
CLOUD_MASK, CLOUD = 0xFFFF0FFF, 0x9000001A  # the files of a cloud provider, whichever of its sixteen tags
PLAIN_TAGS = frozenset({0x80000023, 0x8000001B})  # sockets and app execution aliases: the data stream is what it is

REPARSE_HEADER = c.Struct("tag" / c.Int32ul, "length" / c.Int16ul, c.Padding(2))
NAMES = c.Struct(
    "substitute_offset" / c.Int16ul,
    "substitute_length" / c.Int16ul,
    "print_offset" / c.Int16ul,
    "print_length" / c.Int16ul,
)
SYMLINK_FLAGS = c.Struct("flags" / c.Int32ul)
RELATIVE = 1
LX_VERSION = c.Struct("version" / c.Int32ul)

MAX_SIZE = 16 * 1024  # MAXIMUM_REPARSE_DATA_BUFFER_SIZE
_ABSOLUTE = re.compile(r"^(?:\\\?\?\\|\\\\\?\\)?[A-Za-z]:(?:\\|/|$)")


@dataclass(frozen=True, slots=True)
class Reparse:
    """A reparse point: its tag, and its data behind the header."""

    tag: int
    data: bytes

    @property
    def is_link(self) -> bool:
        """Whether the file stands for another one (a name surrogate)."""
        return bool(self.tag & NAME_SURROGATE)


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """Where a link leads: ``text`` as written; ``inside`` is the path on this volume, ``None`` if it leads out."""

    text: str
    inside: str | None
    absolute: bool


def parse_reparse(value: bytes, what: str) -> Reparse:
    """Parse the value of a $REPARSE_POINT attribute."""
    if len(value) < REPARSE_HEADER.sizeof():
        raise damaged("the reparse point is cut off", what)
    header = REPARSE_HEADER.parse(value)
    data = value[REPARSE_HEADER.sizeof() :]
    if header.length > len(data):
        raise damaged("the reparse point is cut off", what, expected=header.length, found=len(data))
    return Reparse(header.tag, data[: header.length])


def link_target(reparse: Reparse, what: str) -> LinkTarget | None:
    """Return where a symbolic link or junction leads; ``None`` for other tags.

    A drive letter is taken for this volume's: which letter it had only the running system knows.
    """
    if reparse.tag == LX_SYMLINK:
        text = reparse.data[LX_VERSION.sizeof() :].decode("utf-8", "replace")
        return LinkTarget(text, text, text.startswith("/"))
    if reparse.tag not in (SYMLINK, MOUNT_POINT):
        return None
    names_at = NAMES.sizeof() + (SYMLINK_FLAGS.sizeof() if reparse.tag == SYMLINK else 0)
    if len(reparse.data) < names_at:
        raise damaged("the link's data is cut off", what)
    names = NAMES.parse(reparse.data)
    start = names_at + names.substitute_offset
    raw = reparse.data[start : start + names.substitute_length]
    if len(raw) != names.substitute_length:
        raise damaged("the link's target leaves its data", what)
    text = raw.decode("utf-16-le", "replace")
    relative = reparse.tag == SYMLINK and SYMLINK_FLAGS.parse(reparse.data[NAMES.sizeof() :]).flags & RELATIVE
    if relative:
        return LinkTarget(text, text, text.startswith("\\"))
    match = _ABSOLUTE.match(text)
    shown = text.removeprefix("\\??\\")
    return LinkTarget(shown, text[match.end() :] if match else None, absolute=True)


def check_plain(tag: int, file_attributes: int, path: str) -> None:
    """Raise where a file with this tag keeps its bytes elsewhere than in its data stream.

    Raises :class:`UnsupportedError` ``reparse-point``: the zeros in its place would be no answer.
    """
    if tag in PLAIN_TAGS:
        return
    # FILE_ATTRIBUTE_OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS: a cloud file whose bytes are not on the disk.
    if tag & CLOUD_MASK == CLOUD and not file_attributes & 0x00441000:
        return
    raise UnsupportedError(
        "reparse-point",
        f"the file's bytes are kept elsewhere ({TAG_NAMES.get(tag, 'reparse point')}, tag {tag:#010x})",
        path=path,
        hint="Only a running Windows with the same filter driver can read this file.",
    )


TAG_NAMES = {
    0x80000008: "WIM mount",
    0x80000013: "data deduplication",
    0xC0000004: "hierarchical storage",
    0x80000018: "container layer",
    CLOUD: "cloud file",
}
