r"""Where the parent of a differencing image may be: paths of a Windows host, resolved on any system.

A child names its parent by Windows paths: relative to itself, on a volume, absolute. They are followed in the order
that MS-VHDX 2.6.2.6.3 gives. Relative ones are taken from the child's folder. Absolute ones are followed as they are
on Windows; elsewhere the drive they name does not exist, so the longest part of the path that leads somewhere from
the child's folder, or from a folder above it, is looked for: a tree of machines that was copied as a whole is found
again, and a parent that lies beside its child always is.

Every component is compared exactly first and without regard to case where that finds nothing. The search never opens
anything; it looks at names and at what kind of file they are. Network paths (``\\server\share``) and device names
are never followed: an image from elsewhere must not make this machine talk to a server that the image chose.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from vhdtool.disk.device import ParentKind, ParentLocator

ANCESTOR_LIMIT = 16  # folders above the child that an absolute path is tried from
COMPONENT_LIMIT = 64  # components of a path that are looked at
_ORDER = (ParentKind.RELATIVE, ParentKind.VOLUME, ParentKind.ABSOLUTE, ParentKind.NAME)
_DEVICE_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{digit}" for digit in range(10)), *(f"lpt{digit}" for digit in range(10))]
)


class ParentSearch:
    """The search for one child's parent."""

    def __init__(self, child: str, *, windows: bool = os.name == "nt") -> None:
        self._windows = windows
        self._folders = _folders_of(child)
        self._names: dict[str, dict[str, list[str]]] = {}
        self._seen: set[tuple[int, int] | str] = set()
        self._tried: dict[str, None] = {}
        self._wanted: frozenset[str] = frozenset()

    @property
    def tried(self) -> tuple[str, ...]:
        """Every path that was looked for, in order."""
        return tuple(self._tried)

    def candidates(self, locators: Iterable[ParentLocator]) -> Iterator[str]:
        """Yield the files that may be the parent, the likeliest first, each once.

        They are there and are regular files or block devices; whether one is the parent, its identity must tell.
        """
        known = tuple(locators)
        self._wanted = frozenset(name.casefold() for locator in known for name in _split(locator.path)[1])
        self._names.clear()
        for kind in _ORDER:
            for locator in known:
                if locator.kind is kind:
                    yield from self._follow(locator)

    def _follow(self, locator: ParentLocator) -> Iterator[str]:
        native, components = _split(locator.path)
        if not components or len(components) > COMPONENT_LIMIT or any(map(_is_device, components)):
            return
        if native is None:
            for folder in self._folders:
                yield from self._look(folder, components)
            if len(components) > 1:
                for folder in self._folders:
                    yield from self._look(folder, components[-1:])
            return
        if native and (self._windows or not native.endswith("\\")):
            yield from self._look(native, components)
        components = [component for component in components if component not in {".", ".."}]
        for start in range(len(components)):
            for folder in self._folders:
                for ancestor in _ancestors(folder) if start < len(components) - 1 else (folder,):
                    yield from self._look(ancestor, components[start:])

    def _look(self, folder: str, components: list[str]) -> Iterator[str]:
        """Yield what ``components`` lead to from ``folder``, exact names first."""
        wanted = _join(folder, components)
        self._tried[wanted] = None
        place = folder
        for component in components[:-1]:
            if component == ".":
                continue
            if component == "..":
                place = os.path.dirname(place)  # noqa: PTH120  # by the text, as Windows does
                continue
            found = next((path for path in self._matches(place, component) if Path(path).is_dir()), None)
            if found is None:
                return
            place = found
        for path in self._matches(place, components[-1]):
            identity = _file_identity(path)
            if identity is not None and identity not in self._seen:
                self._seen.add(identity)
                yield path

    def _matches(self, folder: str, name: str) -> Iterator[str]:
        """Yield the entries of a folder with this name: exact, then with other case."""
        if name in {".", ".."}:
            return
        exact = str(Path(folder, name))
        if _is_there(exact):
            yield exact
        if folder not in self._names:
            self._names[folder] = _names_in(folder, self._wanted)
        for other in self._names[folder].get(name.casefold(), ()):
            if other != name:
                yield str(Path(folder, other))


def _folders_of(child: str) -> tuple[str, ...]:
    """The child's folder by the name it was opened with, and, behind a symbolic link, by its real one."""
    named = os.path.dirname(os.path.abspath(child))  # noqa: PTH100, PTH120  # links must stay as they are
    real = os.path.dirname(os.path.realpath(child))  # noqa: PTH120
    return (named,) if named == real else (named, real)


def _split(text: str) -> tuple[str | None, list[str]]:
    r"""Cut a path into what it starts from (``None``: relative, ``""``: nowhere to be followed) and its components."""
    path = text.replace("/", "\\")
    namespace = path.startswith(("\\\\?\\", "\\\\.\\"))
    if namespace:
        path = path[4:]
        if path.lower().startswith("unc\\"):
            path = "\\\\" + path[4:]
    components = [] if "\0" in text else [component for component in path.split("\\") if component]
    root: str | None = None
    if path.startswith("\\\\"):
        root, components = "", components[2:]
    elif path.startswith("\\"):
        root = os.sep if text.startswith("/") else ""
    elif components and namespace and components[0].lower().startswith("volume{"):
        root = f"\\\\?\\{components.pop(0)}\\"
    elif components and components[0][0].isalpha() and components[0][1:2] == ":":
        root = components[0][:2] + "\\"
        components = [component for component in (components[0][2:], *components[1:]) if component]
    return root, components


def _is_device(component: str) -> bool:
    return component.partition(".")[0].rstrip(" ").lower() in _DEVICE_NAMES or ":" in component


def _ancestors(folder: str) -> list[str]:
    return [folder, *(str(parent) for parent in list(Path(folder).parents)[:ANCESTOR_LIMIT])]


def _join(folder: str, components: list[str]) -> str:
    return os.path.normpath(os.path.join(folder, *components))  # noqa: PTH118


def _is_there(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a name that this system can't express
        return False
    return True


def _file_identity(path: str) -> tuple[int, int] | str | None:
    """What tells one file from another; ``None`` for what is neither a regular file nor a block device."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISBLK(found.st_mode):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def _names_in(folder: str, wanted: frozenset[str]) -> dict[str, list[str]]:
    """The entries of a folder whose names, without regard to case, are wanted."""
    names: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                folded = entry.name.casefold()
                if folded in wanted:
                    names.setdefault(folded, []).append(entry.name)
    except (OSError, ValueError):
        return {}
    for same in names.values():
        same.sort()
    return names
