"""What a Linux calls itself: ``/etc/os-release`` (os-release(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vhdtool.errors import NotFoundError
from vhdtool.fs.base import GuestFilesystem

RELEASE_FILES = ("/etc/os-release", "/usr/lib/os-release")
OTHER_FILES = ("/etc/redhat-release", "/etc/SuSE-release", "/etc/debian_version")
"""Of systems older than os-release; the first line is the name, of Debian the version alone."""

MOST_BYTES = 64 << 10

_FIELD = re.compile(r"""^([A-Z][A-Z0-9_]*)=(["']?)(.*?)\2[ \t\r]*$""", re.MULTILINE)


def read_release(filesystem: GuestFilesystem) -> dict[str, str] | None:
    """Read the fields of os-release; those of an older system are made from what it has. ``None``: no Linux."""
    for path in RELEASE_FILES:
        content = _head(filesystem, path)
        if content is not None:
            return {name: _unquoted(value) for name, _, value in _FIELD.findall(content)}
    for path in OTHER_FILES:
        content = _head(filesystem, path)
        if content is not None:
            line = content.partition("\n")[0].strip()
            name, kin = _old_name(path, line)
            return {"ID": kin, "PRETTY_NAME": name}
    return None


def release_ids(release: Mapping[str, str]) -> list[str]:
    """The names of the distribution and of those that it is made from, its own first."""
    return [release.get("ID", ""), *release.get("ID_LIKE", "").split()]


def _old_name(path: str, line: str) -> tuple[str, str]:
    if path.endswith("debian_version"):
        return f"Debian GNU/Linux {line}".strip(), "debian"
    if path.endswith("SuSE-release"):
        return line, "suse"
    word = line.partition(" ")[0].lower()
    return line, {"red": "rhel", "oracle": "ol"}.get(word, word)


def _unquoted(value: str) -> str:
    return re.sub(r"\\([\\\"'$`])", r"\1", value)


def _head(filesystem: GuestFilesystem, path: str) -> str | None:
    try:
        file = filesystem.open(path)
    except NotFoundError:
        return None
    return file.read_at(0, min(file.size, MOST_BYTES)).decode("utf-8", errors="replace")
