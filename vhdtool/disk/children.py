"""The children of an image: differencing images that stand on it, and break when it is changed.

A parent does not know its children; they are looked for where they usually lie: beside it, and where the caller says.
A VHDX child names the state of its parent (MS-VHDX 2.6.2.6.3): once the parent is changed it can't be opened any
more, and says so. A VHD child names an identifier that its parent keeps through every change ("Implementing a
Differencing Hard Disk" of the VHD specification): it would mix old and new without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.commit import Target
from vhdtool.disk.device import FileDevice, LayerInfo
from vhdtool.disk.open_layer import OpenedLayer, open_layer, refuse_no_file
from vhdtool.disk.parent import find_parent
from vhdtool.disk.parent_search import ParentSearch
from vhdtool.errors import InputError, RefusedError, VhdtoolError

SUFFIXES = frozenset({".vhdx", ".avhdx", ".vhd", ".avhd"})
MOST_ENTRIES = 200_000
"""Names that are looked at, over all folders."""
MOST_FILES = 10_000
"""Images that are opened."""
DEEPEST = 16
"""Levels of folders below one that the caller named."""
SHOWN = 8


@dataclass(frozen=True, slots=True)
class ChildSearch:
    """What a search for children found.

    ``children`` stand on the image. ``strays`` name its path, but another state or another image that was there: they
    are broken already. ``unreadable`` counts files that may be images and could not be opened. ``complete``: every
    folder could be listed to its end.
    """

    children: tuple[str, ...]
    strays: tuple[str, ...]
    folders: tuple[str, ...]
    files_looked_at: int
    unreadable: int
    complete: bool


def find_children(path: str, folders: Sequence[str] = ()) -> ChildSearch:
    """Look for children of the image at ``path``: beside it, and in ``folders`` and all below them.

    Files that are no images, or damaged, are passed over and counted. Raises what opening the image raises.
    """
    refuse_no_file(path)
    opened = open_layer(FileDevice(path))
    try:
        return _search(opened.layer.info, folders)
    finally:
        opened.layer.close()


def refuse_parent_in_place(disk: VirtualDisk, target: Target, *, besides: Iterable[str] = ()) -> tuple[str, ...]:
    """Refuse to change an image in place that others stand on; tell what that means where none was found.

    ``besides``: children that may be there, for they are about to be merged. Raises :class:`RefusedError`
    ``is-a-parent``, and ``children-unknown`` for a VHD without the user's word (``target.no_children``).
    """
    info = disk.layers[0].info
    if info.format == "raw":
        return ()
    found = _search(info, target.children_folders)
    expected = list(besides)
    children = [child for child in found.children if not any(_is_same(child, other) for other in expected)]
    if children:
        raise RefusedError(
            "is-a-parent",
            f"differencing images stand on this one ({len(children)}), and would break if it were changed",
            path=info.path,
            found=_shown(children),
            hint="Write the change into a new child (--child PATH), or merge or delete these first.",
        )
    notes = [_stray(stray) for stray in found.strays[:SHOWN]]
    if info.format == "vhdx":
        what = "one that lies elsewhere can't be used any more, and says so when it is opened"
    elif target.no_children:
        what = "by your word there is none elsewhere: it would read wrong data from now on"
    else:
        raise RefusedError(
            "children-unknown",
            "a VHD keeps its identifier when it is changed, so a child that lies elsewhere would not notice",
            path=info.path,
            found=f"no child among {_looked_at(found)}",
            hint="Say that it has none: --no-children; look elsewhere too: --children DIR; or use --child PATH.",
        )
    return (*notes, f"No child was found among {_looked_at(found)}; {what}.")


def _search(info: LayerInfo, named: Sequence[str]) -> ChildSearch:
    listing = _Listing(info.path, named)
    children, strays = [], []
    looked_at = unreadable = 0
    for path in listing.images():
        if looked_at >= MOST_FILES:
            listing.complete = False
            break
        looked_at += 1
        try:
            kind = _kinship(path, info)
        except VhdtoolError:
            unreadable += 1
            continue
        if kind == "child":
            children.append(path)
        elif kind == "stray":
            strays.append(path)
    return ChildSearch(tuple(children), tuple(strays), tuple(listing.folders), looked_at, unreadable, listing.complete)


def _kinship(path: str, parent: LayerInfo) -> str | None:
    refuse_no_file(path)
    opened = open_layer(FileDevice(path))
    try:
        info = opened.layer.info
        if info.type != "differencing" or info.format != parent.format:
            return None
        if parent.identity is not None and parent.identity in info.linkage:
            return "child" if _stands_on(opened, parent.path) else None
        leads_here = any(_is_same(place, parent.path) for place in ParentSearch(path).candidates(info.locators))
        return "stray" if leads_here else None
    finally:
        opened.layer.close()


def _stands_on(child: OpenedLayer, parent: str) -> bool:
    """Tell whether the way from a child ends at this file, and not at a copy that has the same identity."""
    try:
        found = find_parent([child], None)
    except InputError:
        return True  # it leads nowhere: of all files only this one is known to fit
    found.opened.layer.close()
    return _is_same(found.opened.file.path, parent)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False


class _Listing:
    """The images in the folders that are searched, each once; the image itself is left out."""

    def __init__(self, image: str, named: Sequence[str]) -> None:
        self._image = image
        beside = (os.path.dirname(os.path.abspath(image)), os.path.dirname(os.path.realpath(image)))  # noqa: PTH100, PTH120
        self._places = [*((folder, 0) for folder in dict.fromkeys(beside)), *((folder, DEEPEST) for folder in named)]
        self._entries = 0
        self._seen: set[str] = set()
        self.folders = [folder for folder, _ in self._places]
        self.complete = True

    def images(self) -> Iterator[str]:
        """Yield the paths, folder by folder, in the order of their names."""
        waiting = list(reversed(self._places))
        while waiting:
            folder, depth = waiting.pop()
            files, below = self._list(folder)
            for path in files:
                real = os.path.realpath(path)
                if real not in self._seen and not _is_same(path, self._image):
                    self._seen.add(real)
                    yield path
            if depth:
                waiting += [(path, depth - 1) for path in reversed(below)]
            elif below and folder not in self.folders:
                self.complete = False

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        files, below = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries > MOST_ENTRIES:
                        self.complete = False
                        break
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif Path(entry.name).suffix.lower() in SUFFIXES:
                        files.append(entry.path)
        except OSError:
            self.complete = False
        return sorted(files), sorted(below)


def _shown(paths: Sequence[str]) -> str:
    more = f"; and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return "; ".join(paths[:SHOWN]) + more


def _looked_at(found: ChildSearch) -> str:
    unread = f", {found.unreadable} of them unreadable" if found.unreadable else ""
    part = "" if found.complete else ", not all of it"
    return f"{found.files_looked_at} other images in {_shown(found.folders)}{part}{unread}"


def _stray(path: str) -> str:
    return f"{path} names this file as its parent, but was made for another state of it: it is broken already."
