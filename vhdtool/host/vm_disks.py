r"""The files of a machine's disks, as far as they can be found from here.

A configuration names its disks by paths of its host. They are followed as those of a parent of a differencing image
are (:mod:`vhdtool.disk.parent_search`): as written on Windows; else the longest part of the path that leads somewhere
from the configuration's folder or one above it, then the name alone beside the configuration, and in the folder
``Virtual Hard Disks`` beside its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from ntpath import basename as windows_name
from pathlib import Path

from vhdtool.disk.device import ParentKind, ParentLocator
from vhdtool.disk.parent_search import ParentSearch
from vhdtool.host.vmconfig import AttachedDisk, VmConfig

DISK_FOLDER = "Virtual Hard Disks"


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """A disk of the machine, and the file that it seems to be: ``None`` after ``tried`` was in vain."""

    disk: AttachedDisk
    path: str | None
    tried: tuple[str, ...]


def find_disks(config: VmConfig) -> tuple[DiskPlace, ...]:
    """Look for the files of the machine's disks, in the order of the controllers. Opens none."""
    return tuple(_find(config.path, disk) for disk in config.disks)


def _find(config: str, disk: AttachedDisk) -> DiskPlace:
    search = ParentSearch(config)
    name = windows_name(disk.path.replace("/", "\\"))
    for locator in (
        ParentLocator(ParentKind.ABSOLUTE, disk.path),
        ParentLocator(ParentKind.RELATIVE, name),
        ParentLocator(ParentKind.RELATIVE, rf"..\{DISK_FOLDER}\{name}"),
    ):
        found = next(search.candidates([locator]), None)
        if found is not None:
            return DiskPlace(disk, found, search.tried)
    return DiskPlace(disk, None, search.tried)


def attached_as(config: VmConfig, path: str, places: Sequence[DiskPlace] | None = None) -> AttachedDisk | None:
    """Tell which of the machine's disks an image is: the same file, or one of that name where the file is not here.

    ``None``: none of them.
    """
    known = find_disks(config) if places is None else places
    for place in known:
        if place.path is not None and _is_same(place.path, path):
            return place.disk
    name = Path(path).name.casefold()
    for place in known:
        if place.path is None and windows_name(place.disk.path.replace("/", "\\")).casefold() == name:
            return place.disk
    return None


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return False
