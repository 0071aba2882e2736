"""A virtual disk put together from its files: the one that was opened and its parents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from vhdtool.disk.device import FileDevice, Layer, Origin, Run
from vhdtool.disk.open_layer import OpenedLayer, open_layer, refuse_no_file
from vhdtool.disk.parent import find_parent
from vhdtool.errors import InputError, Problem

DEPTH_LIMIT = 256  # files of a chain; OpenVMM has the same limit
_ZEROS = memoryview(bytes(1 << 20))


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """Facts of the disk: those of the opened file, the parents' paths, the problems of all files. Sizes in bytes."""

    path: str
    format: str
    type: str
    virtual_size: int
    logical_sector_size: int
    physical_sector_size: int
    block_size: int | None
    log: str | None  # "replayed" where the log of any file was; None where the format has none
    parents: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class ChainExtent:
    """Where a range of the disk comes from.

    ``data``: stored in file ``layer`` of the chain at ``file_offset``. ``zero``: file ``layer`` says that it is zeros.
    ``hole``: no file holds it, so it is zeros; ``layer`` and ``file_offset`` are ``None``.
    """

    offset: int
    length: int
    kind: Literal["data", "zero", "hole"]
    layer: int | None
    file_offset: int | None


class VirtualDisk:
    """A :class:`vhdtool.disk.device.BlockDevice` over a chain of files. Not safe for use by several threads.

    ``layers[0]`` is the file that was opened; each layer's parent follows it.
    """

    def __init__(self, opened: Sequence[OpenedLayer], problems: Sequence[Problem] = ()) -> None:
        self.layers: tuple[Layer, ...] = tuple(each.layer for each in opened)
        self.files: tuple[FileDevice, ...] = tuple(each.file for each in opened)
        infos = [layer.info for layer in self.layers]
        top = infos[0]
        self._size = top.virtual_size
        self._sector_size = top.logical_sector_size
        self._sizes = tuple(info.virtual_size for info in infos)
        self._last = len(infos) - 1
        self.info = DiskInfo(
            path=top.path,
            format=top.format,
            type=top.type,
            virtual_size=top.virtual_size,
            logical_sector_size=top.logical_sector_size,
            physical_sector_size=top.physical_sector_size,
            block_size=top.block_size,
            log="replayed" if any(info.log == "replayed" for info in infos) else top.log,
            parents=tuple(info.path for info in infos[1:]),
            problems=(*(problem for info in infos for problem in info.problems), *problems),
        )

    def __enter__(self) -> Self:
        """Give the disk itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files of the chain; a second call does nothing."""
        for layer in self.layers:
            layer.close()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    @property
    def logical_sector_size(self) -> int:
        """512 or 4096."""
        return self._sector_size

    @property
    def bytes_read(self) -> int:
        """Bytes that have been asked of the operating system, over all files."""
        return sum(file.bytes_read for file in self.files)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the disk ends.

        Raises :class:`vhdtool.errors.DamagedError` where a structure that says where the bytes are is damaged;
        :class:`ValueError` for a negative offset or length.
        """
        if length < 0:
            raise ValueError("the length is not negative")
        buffer = bytearray(max(0, min(length, self._size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``, zeros for holes; return the bytes filled: fewer only at the disk's end.

        Raises as :meth:`read_at`.
        """
        if offset < 0:
            raise ValueError("the offset is not negative")
        wanted = min(len(buffer), self._size - offset)
        if wanted <= 0:
            return 0
        lower = self._fill(0, offset, wanted, offset, buffer)
        while lower:
            index, start, length = lower.pop()
            lower += self._fill(index, start, length, offset, buffer)
        return wanted

    def _fill(self, index: int, start: int, length: int, base: int, buffer: memoryview) -> list[tuple[int, int, int]]:
        """Fill what layer ``index`` has of a range; return what a lower layer must tell. ``buffer`` is at ``base``."""
        layer = self.layers[index]
        lower: list[tuple[int, int, int]] = []
        inside = min(length, self._sizes[index] - start)
        if inside < length:  # a child may be larger than its parent: what the parent lacks is zeros
            inside = max(0, inside)
            _clear(buffer, start + inside - base, length - inside)
        if inside == 0:
            return lower
        for run in layer.resolve(start, inside):
            place = run.offset - base
            if run.origin is Origin.DATA:
                layer.read_stored(run.file_offset, buffer[place : place + run.length])
            elif run.origin is Origin.PARENT and index < self._last:
                lower.append((index + 1, run.offset, run.length))
            else:
                _clear(buffer, place, run.length)
        return lower

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[ChainExtent]:
        """Tell where a range of the disk comes from, in order and without gaps; neighbours of one kind are merged.

        ``length`` is cut at the end of the disk. The memory needed does not grow with the disk. Raises as
        :meth:`read_at`.
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length are not negative")
        end = self._size if length is None else min(self._size, offset + length)
        kept: ChainExtent | None = None
        for extent in self._extents(offset, end):
            if kept is not None and _continues(kept, extent):
                kept = replace(kept, length=kept.length + extent.length)
                continue
            if kept is not None:
                yield kept
            kept = extent
        if kept is not None:
            yield kept

    def _extents(self, offset: int, end: int) -> Iterator[ChainExtent]:
        if offset >= end:
            return
        stack = [(0, self._runs(0, offset, end - offset))]
        while stack:
            index, runs = stack[-1]
            run = next(runs, None)
            if run is None:
                stack.pop()
            elif isinstance(run, ChainExtent):
                yield run
            elif run.origin is Origin.DATA:
                yield ChainExtent(run.offset, run.length, "data", index, run.file_offset)
            elif run.origin is Origin.ZERO:
                yield ChainExtent(run.offset, run.length, "zero", index, None)
            elif index < self._last:
                stack.append((index + 1, self._runs(index + 1, run.offset, run.length)))
            else:
                yield ChainExtent(run.offset, run.length, "hole", None, None)

    def _runs(self, index: int, start: int, length: int) -> Iterator[Run | ChainExtent]:
        """What layer ``index`` says of a range, and a hole for what lies past the layer's end."""
        inside = max(0, min(length, self._sizes[index] - start))
        if inside:
            yield from self.layers[index].resolve(start, inside)
        if inside < length:
            yield ChainExtent(start + inside, length - inside, "hole", None, None)


def open_disk(path: str | os.PathLike[str], *, parent: str | os.PathLike[str] | None = None) -> VirtualDisk:
    """Open a VHDX, VHD or raw image, read-only, with all its parents.

    ``parent`` names the parent for the first file of the chain whose own locators lead to none; where they lead to
    one, it is not looked at. Raises :class:`InputError` ``cannot-open``, ``not-a-disk``, ``parent-missing``,
    ``chain-too-deep``; :class:`vhdtool.errors.DamagedError` ``parent-mismatch``, ``chain-loop``; what opening the
    formats raises.
    """
    name = os.fspath(path)
    refuse_no_file(name)
    named = os.fspath(parent) if parent is not None else None
    chain = [open_layer(FileDevice(name))]
    problems: list[Problem] = []
    try:
        while chain[-1].layer.info.type == "differencing":
            if len(chain) >= DEPTH_LIMIT:
                raise InputError(
                    "chain-too-deep",
                    f"the chain of parents has more than {DEPTH_LIMIT} files",
                    path=name,
                    hint="Merge checkpoints of the machine, then try again.",
                )
            found = find_parent(chain, named)
            chain.append(found.opened)
            problems += found.problems
            if found.named:
                named = None
        return VirtualDisk(chain, problems)
    except BaseException:
        for opened in chain:
            opened.layer.close()
        raise


def _continues(before: ChainExtent, after: ChainExtent) -> bool:
    if before.kind != after.kind or before.layer != after.layer:
        return False
    return before.file_offset is None or before.file_offset + before.length == after.file_offset


def _clear(buffer: memoryview, start: int, length: int) -> None:
    """Fill a part of a buffer with zeros."""
    end = start + length
    while start < end:
        step = min(len(_ZEROS), end - start)
        buffer[start : start + step] = _ZEROS[:step]
        start += step
