"""Would-be files for the tests of second opinions: made of an overlay, and damaged behind everybody's back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.disk.chain import VirtualDisk
from vhdtool.disk.commit import Candidate
from vhdtool.disk.create_vhdx import Block, Identity, write_vhdx
from vhdtool.disk.overlay import Overlay

MIB = 1 << 20
CHILD = Identity(UUID(int=0xC1), UUID(int=0xC2), UUID(int=0xC3))


class Patched:
    """A source with some bytes changed: ``patches`` by offset."""

    def __init__(self, source: ByteSource, patches: Mapping[int, bytes]) -> None:
        self._source = source
        self._patches = dict(patches)

    @property
    def size(self) -> int:
        return self._source.size

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(self._source.read_at(offset, length))
        for place, patch in self._patches.items():
            for index, byte in enumerate(patch):
                if 0 <= place + index - offset < len(data):
                    data[place + index - offset] = byte
        return bytes(data)


def flipped(source: ByteSource, offset: int) -> Patched:
    """The source with one bit changed."""
    return Patched(source, {offset: bytes([source.read_at(offset, 1)[0] ^ 1])})


def child_of(overlay: Overlay, path: Path, **wanted: object) -> Candidate:
    """A VHDX child that holds every touched MiB as a whole block, and its parents."""
    base: VirtualDisk = overlay.base
    numbers = {
        number for start, length in overlay.changed() for number in range(start // MIB, -(-(start + length) // MIB))
    }
    settings = {
        "virtual_size": overlay.size,
        "block_size": MIB,
        "identity": CHILD,
        "kind": "differencing",
        "logical_sector_size": overlay.logical_sector_size,
        "blocks": {number: Block(data=overlay.read_at(number * MIB, MIB)) for number in numbers},
        "parent": {"parent_linkage": f"{{{base.layers[0].info.identity}}}", "relative_path": ".\\parent.vhdx"},
    }
    write_vhdx(path, **(settings | wanted))  # type: ignore[arg-type]  # a test's own settings
    return with_first(base, path, BytesSource(path.read_bytes()))


def with_first(base: VirtualDisk, path: Path, source: ByteSource) -> Candidate:
    """A file in front of a chain."""
    return Candidate("vhdx", [(str(path), source), *((file.path, file) for file in base.files)])


def replaced(candidate: Candidate, source: ByteSource) -> Candidate:
    """The candidate with another first file."""
    return Candidate(candidate.format, [(candidate.files[0][0], source), *candidate.files[1:]])
