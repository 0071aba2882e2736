"""The parent of a differencing image: found by its locators, known by its identity.

A path is a hint, the identity is the proof (MS-VHDX 2.6.2.6; "Implementing a Differencing Hard Disk" of the VHD
specification): every file that the search turns up is opened and must be the one that the child names, or the next
is tried. A parent that the caller names is asked last, for the first link that the search does not close.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vhdtool.disk.device import FileDevice, Layer
from vhdtool.disk.open_layer import OpenedLayer, open_layer, refuse_no_file
from vhdtool.disk.parent_search import ParentSearch
from vhdtool.disk.vhd import VhdLayer
from vhdtool.errors import DamagedError, InputError, Problem

TRIED_SHOWN = 12  # paths that an error names
_TIMESTAMP_TOLERANCE = 2.0  # seconds: FAT keeps even ones only
_PARENT_HINT = "Name the parent with --parent PATH."


@dataclass(frozen=True, slots=True)
class FoundParent:
    """A parent that proved to be the child's, and what is suspicious about it."""

    opened: OpenedLayer
    problems: tuple[Problem, ...]
    named: bool  # it is the one that the caller named


def find_parent(chain: Sequence[OpenedLayer], named: str | None) -> FoundParent:
    """Find and open the parent of the last layer of ``chain``.

    Raises :class:`InputError` ``parent-missing`` where no file is there, :class:`DamagedError` ``parent-mismatch``
    where files are there and none is the parent, ``chain-loop`` where the parent is a layer that stands above;
    the error of a file that could not be opened where that is all there was.
    """
    child = chain[-1]
    search = ParentSearch(child.file.path)
    rejected: list[InputError] = []
    above: list[str] = []  # files of the chain itself, under whatever name: a child with its parent's name, a link
    for path, is_named in _candidates(search, child.layer, named):
        try:
            opened = _open(path, is_named=is_named)
        except InputError as error:
            if is_named:
                raise
            rejected.append(error)
            continue
        fault = _fault(chain, opened)
        if fault is None:
            return FoundParent(opened, _timestamp_problems(child.layer, opened), is_named)
        opened.layer.close()
        if is_named or fault.code == "chain-loop":
            raise fault
        if _is_of(chain, opened.file):
            above.append(path)
        else:
            rejected.append(fault)
    raise _not_found(child.layer, search.tried, above, rejected)


def _candidates(search: ParentSearch, child: Layer, named: str | None) -> Iterator[tuple[str, bool]]:
    for path in search.candidates(child.info.locators):
        yield path, False
    if named is not None:
        yield named, True


def _open(path: str, *, is_named: bool) -> OpenedLayer:
    if is_named:
        refuse_no_file(path)
    return open_layer(FileDevice(path))


def _fault(chain: Sequence[OpenedLayer], parent: OpenedLayer) -> DamagedError | None:
    """Why ``parent`` is not the parent of the last layer; ``None`` where it is."""
    child, info = chain[-1].layer.info, parent.layer.info
    if info.format != child.format:
        return _mismatch(child.path, info.path, "it is of another format", child.format, info.format)
    if info.identity is None or info.identity not in child.linkage:
        expected = " or ".join(child.linkage) or "an identifier, but the child names none"
        return _mismatch(child.path, info.path, "it has another identifier", expected, info.identity)
    if _is_of(chain, parent.file):
        return DamagedError(
            "chain-loop",
            f"the chain of parents comes back to {info.path}",
            path=child.path,
            hint=f"A file of the chain was replaced by another. {_PARENT_HINT}",
        )
    if info.logical_sector_size != child.logical_sector_size:
        sizes = child.logical_sector_size, info.logical_sector_size
        return _mismatch(child.path, info.path, "it has another logical sector size", *sizes)
    return None


def _is_of(chain: Sequence[OpenedLayer], file: FileDevice) -> bool:
    return any(_same_file(file, opened.file) for opened in chain)


def _same_file(one: FileDevice, other: FileDevice) -> bool:
    try:
        return os.path.samefile(one.path, other.path)  # noqa: PTH121
    except OSError:
        return one.path == other.path


def _mismatch(child: str, parent: str, what: str, expected: object, found: object) -> DamagedError:
    return DamagedError(
        "parent-mismatch",
        f"{parent} is not the parent: {what}",
        path=child,
        expected=expected,
        found=found,
        hint="The parent was changed or replaced after the child was made. If another file is the parent: "
        + _PARENT_HINT,
    )


def _not_found(child: Layer, tried: Sequence[str], above: Sequence[str], rejected: Sequence[InputError]) -> InputError:
    for error in rejected:
        if error.code == "parent-mismatch":
            return error
    if rejected:
        return rejected[-1]
    info = child.info
    named = "; ".join(sorted({locator.path for locator in info.locators})) or "no name"
    shown = "; ".join(tried[:TRIED_SHOWN])
    more = f"; and {len(tried) - TRIED_SHOWN} more" if len(tried) > TRIED_SHOWN else ""
    found = f"nothing at {shown}{more}" if tried else "no path that can be followed"
    if above:
        found = f"at {'; '.join(above)} a file of the chain itself, tried {shown}{more}"
    return InputError(
        "parent-missing",
        f"the parent of this differencing image was not found; the image calls it: {named}",
        path=info.path,
        found=found,
        hint=_PARENT_HINT,
    )


def _timestamp_problems(child: Layer, parent: OpenedLayer) -> tuple[Problem, ...]:
    """A VHD's identity survives its changes, so its time is the only witness of a parent that was written to.

    Copying a file gives it a new time as well: a difference is worth a word, no more.
    """
    if not isinstance(child, VhdLayer) or child.parent_timestamp is None or not isinstance(parent.layer, VhdLayer):
        return ()
    stated = child.parent_timestamp.timestamp()
    try:
        known = [Path(parent.file.path).stat().st_mtime]
    except OSError:
        known = []
    known.append(parent.layer.footers.footer.timestamp.timestamp())
    if any(abs(stated - time) <= _TIMESTAMP_TOLERANCE for time in known):
        return ()
    message = (
        f"the parent {parent.layer.info.path} has another time than the child states "
        f"({child.parent_timestamp:%Y-%m-%d %H:%M:%S} UTC): it was copied, or changed after the child was made"
    )
    return (Problem("vhd-parent-timestamp", message, child.info.path),)
