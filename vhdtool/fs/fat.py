"""FAT12, FAT16 and FAT32: directory entries through dissect.fat, cluster chains by own code.

dissect follows a chain that leads in a circle for ever, and takes a cluster that lies one before its predecessor
for one that lies after it: it would return another file's bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from vhdtool.disk.device import BlockDevice, Slice
from vhdtool.fs.base import FileStat
from vhdtool.fs.boundary import MeteredStream
from vhdtool.fs.dissect_fs import Node
from vhdtool.fs.runs import Run, RunStream, damaged, runs_overlap

MAX_DIRECTORY = 65536 * 32  # bytes; FAT allows no larger directory


class FatDriver:
    """One FAT volume. FAT keeps local time and not the zone: times are given as if they were UTC."""

    kind = "fat"
    ignores_case = True
    backslash = True

    def __init__(self, device: BlockDevice, meter: MeteredStream) -> None:
        from dissect.fat import fat  # noqa: PLC0415  # see open_dissect

        self._fat = fat
        self._fs = fat.FATFS(meter)
        fs = self._fs
        self._root_bytes: bytes | None = None
        if fs.type != fat.Fattype.FAT32:
            start = (fs.bpb.BPB_RsvdSecCnt + fs.fat_size * fs.bpb.BPB_NumFATs) * fs.sector_size
            self._root_bytes = device.read_at(start, fs.bpb.BPB_RootEntCnt * 32)
        heap = fs.first_data_sector * fs.sector_size
        self._heap = Slice(device, heap, fs.total_sectors * fs.sector_size - heap)
        self._clusters = self._heap.size // fs.cluster_size

    def label(self) -> str | None:
        """The label in the root directory, else that of the boot sector."""
        for entry in self._entries(self.root()):
            if entry.is_volume_id():
                return _text(bytes(entry.dirent.DIR_Name), self._fs.encoding)
        label = str(self._fs.volume_label).strip()
        return label if label and label != "NO NAME" else None

    def root(self) -> Node:
        """The root directory."""
        return Node("", self._fs.root)

    def children(self, node: Node) -> Iterator[Node]:
        """The entries of a directory, under their long names."""
        for entry in self._entries(node):
            if not entry.is_volume_id() and entry.name not in (".", ".."):
                yield Node(entry.name, entry)

    def facts(self, node: Node) -> FileStat:
        """Facts of one entry."""
        entry = node.handle
        directory = bool(entry.is_directory())
        return FileStat(
            name=node.name,
            kind="directory" if directory else "file",
            size=0 if directory else int(entry.size),
            record=entry.cluster or None,
            modified=None if entry is self._fs.root else _modified(entry),
        )

    def stream(self, node: Node, path: str) -> RunStream:
        """The bytes of a file."""
        entry = node.handle
        return self._chain(int(entry.cluster), int(entry.size), path)

    def _entries(self, node: Node) -> Iterator[Any]:
        entry = node.handle
        if entry is self._fs.root and self._root_bytes is not None:
            data = self._root_bytes
        else:
            stream = self._chain(int(entry.cluster), None, node.name)
            data = stream.read_at(0, min(stream.size, MAX_DIRECTORY))
        return iter(self._fat._iter_dirent(self._fs, io.BytesIO(data), entry))

    def _chain(self, cluster: int, size: int | None, what: str) -> RunStream:
        """The chain from ``cluster`` on; all of it where ``size`` is ``None`` (directories don't tell theirs)."""
        runs: list[Run] = []
        cluster_size = self._fs.cluster_size
        wanted = -(-size // cluster_size) if size is not None else MAX_DIRECTORY // cluster_size + 1
        wanted = min(wanted, self._clusters + 1)
        bits = self._fs.fat.bits_per_entry
        last = (1 << min(bits, 28)) - 8
        count = 0
        while wanted and 2 <= cluster < self._clusters + 2 and count < wanted:
            number = cluster - 2
            if runs and runs[-1][0] is not None and runs[-1][0] + runs[-1][1] == number:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((number, 1))
            count += 1
            cluster = self._fs.fat.get(cluster)
        if size is None and cluster < last:
            raise damaged(f"a chain of clusters ends at {cluster:#x}", what)
        if runs_overlap(runs):
            raise damaged("a chain of clusters leads in a circle", what)
        length = count * cluster_size if size is None else size
        return RunStream(self._heap, runs, cluster_size, size=length, initialized=length, what=what)


def _modified(entry: Any) -> datetime | None:
    try:
        found: datetime = entry.mtime
    except ValueError:
        return None
    return found.replace(tzinfo=UTC)


def _text(raw: bytes, encoding: str) -> str | None:
    return raw.decode(encoding, "replace").strip() or None
