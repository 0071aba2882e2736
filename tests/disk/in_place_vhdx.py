"""Changes to VHDX files in place, for the tests: from writes to the finished commit, and what is in the file then."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.crash.recording import UNFLUSHED
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import open_disk
from vhdtool.disk.commit import Target, Written
from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit
from vhdtool.disk.host_store import HostStore
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.vhdx_header import Header, read_headers
from vhdtool.progress import SILENT


def commit(
    path: Path, writes: Mapping[int, bytes], store: HostStore = UNFLUSHED, *, fold: bool = True, **wanted: Any
) -> Written:
    with open_disk(path) as disk, Overlay(disk) as overlay:
        for offset, data in writes.items():
            overlay.write_at(offset, data)
        steps = VhdxInPlaceCommit(overlay, Target("in-place", fold=fold), store, **wanted)
        try:
            steps.prepare(SILENT)
            return steps.finish(SILENT)
        finally:
            steps.abandon()


def disk_of(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read_at(0, disk.size)


def written_over(data: bytes, writes: Mapping[int, bytes]) -> bytes:
    """What a disk holds after plain writes to it."""
    disk = bytearray(data)
    for offset, piece in writes.items():
        disk[offset : offset + len(piece)] = piece
    return bytes(disk)


def findings(path: Path) -> list[str]:
    with open_disk(path) as disk:
        return [finding.code for finding in audit_disk(disk).findings]


def headers(path: Path) -> tuple[Header, Header]:
    with path.open("rb") as file:
        data = file.read(1 << 20)

    class Start:
        size = len(data)

        @staticmethod
        def read_at(offset: int, length: int) -> bytes:
            return data[offset : offset + length]

    (first, second), _, _ = read_headers(Start())
    return first.header, second.header


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
