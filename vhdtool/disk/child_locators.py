r"""How a new child names its parent: the paths that go into its locators.

The relative path is always there, with backslashes, from the child's folder to the parent's. An absolute one is
written only where it is known to be a Windows path: on Windows, or as the caller gives it. A path of another system
would lead nowhere on the host that the child is made for (MS-VHDX 2.6.2.6.3: ``absolute_win32_path``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Final

from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.disk.parent_search import ParentSearch
from vhdtool.errors import RefusedError, UsageError

PATH_LIMIT: Final = 32_767
"""UTF-16 units of a Windows path."""
_NAMESPACE = "\\\\?\\"


@dataclass(frozen=True, slots=True)
class WaysToParent:
    r"""``relative`` starts with ``.\`` or ``..\``; ``absolute`` with a drive or ``\\``. At least one is there."""

    relative: str | None
    absolute: str | None

    @property
    def namespace_path(self) -> str | None:
        r"""The absolute path as MS-VHDX has it: ``\\?\d:\folder\parent.vhdx``."""
        if self.absolute is None or self.absolute.startswith(_NAMESPACE):
            return self.absolute
        if self.absolute.startswith("\\\\"):
            return f"{_NAMESPACE}UNC{self.absolute[1:]}"
        return _NAMESPACE + self.absolute


def ways_to_parent(child: str, parent: str, windows_path: str | None = None) -> WaysToParent:
    """Return the ways from the file ``child``, which need not be there, to the file ``parent``.

    ``windows_path``: the parent's absolute path on the Windows host where the chain will be used.

    Raises :class:`UsageError` ``not-a-windows-path``; :class:`RefusedError` ``parent-not-nameable`` for a parent whose
    path no Windows path can express, so that the child would not find it.
    """
    absolute = _windows_path(windows_path) if windows_path is not None else None
    if absolute is None and os.name == "nt":
        absolute = os.path.abspath(parent)  # noqa: PTH100  # no links are followed
    relative = _relative(child, parent)
    if relative is None and absolute is not None:
        return WaysToParent(None, absolute)
    if relative is None or not _leads_to(child, relative, parent):
        raise RefusedError(
            "parent-not-nameable",
            "the parent's path can't be written as a Windows path, so a child would not find it",
            path=parent,
            found=relative,
            hint='Give its folders and its file names that Windows knows: none of < > : " / \\ | ? *.',
        )
    return WaysToParent(relative, absolute)


def _relative(child: str, parent: str) -> str | None:
    """From folder to folder as they really are: a link on the way would be followed by some readers only."""
    start = os.path.realpath(os.path.dirname(child) or ".")  # noqa: PTH120
    folder = os.path.realpath(os.path.dirname(parent) or ".")  # noqa: PTH120
    name = os.path.basename(parent)  # noqa: PTH119
    try:
        steps = os.path.relpath(os.path.join(folder, name), start)  # noqa: PTH118
        text = steps.replace(os.sep, "\\")
        text.encode("utf-16-le")
    except ValueError:  # another drive on Windows; a name that is no Unicode
        return None
    return text if text.startswith("..\\") else f".\\{text}"


def _leads_to(child: str, relative: str, parent: str) -> bool:
    """Whether the search that opens chains finds the parent by this path first."""
    locator = ParentLocator(ParentKind.RELATIVE, relative)
    found = next(ParentSearch(child).candidates([locator]), None)
    try:
        return found is not None and os.path.samefile(found, parent)  # noqa: PTH121
    except OSError:
        return False


def _windows_path(text: str) -> str:
    path = PureWindowsPath(text)
    backslashed = text.replace("/", "\\")
    units = len(backslashed.encode("utf-16-le", "surrogatepass")) // 2
    if not path.is_absolute() or not path.name or "\0" in text or units > PATH_LIMIT:
        raise UsageError(
            "not-a-windows-path",
            "the parent's Windows path is not absolute",
            expected=r"a path such as D:\images\parent.vhdx or \\server\share\parent.vhdx",
            found=text[:256],
        )
    return backslashed
