"""VHDX images, changes to them, and readers that judge what a power cut left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.crash.power_cut import Expected, Reader, Recording, View, record
from tests.crash.recording import UNFLUSHED
from tests.disk.vhdx_files import IDENTITY, LOG_GUID, MIB, change, make, pattern
from tests.tools import require_tool, run
from vhdtool.disk import vhdx_format as fmt
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_vhdx import VhdxInPlaceCommit
from vhdtool.disk.create_vhdx import Block, Identity, PendingEntry, PendingLog
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.recover_vhdx import recover_vhdx
from vhdtool.disk.vhdx_bat import encode_bat_entry
from vhdtool.disk.vhdx_bitmap import bitmap_of
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.progress import SILENT

IMAGE = "image.vhdx"
PARENT = "base.vhdx"
PARENT_IDENTITY = Identity(IDENTITY.virtual_disk, IDENTITY.file_write, IDENTITY.virtual_disk)
LINKAGE = {"parent_linkage": f"{{{PARENT_IDENTITY.data_write}}}", "relative_path": f".\\{PARENT}"}
NEW_GUID = UUID("66666666-6666-4666-8666-666666666666")


@dataclass(frozen=True, slots=True)
class Scenario:
    """``build`` makes the files in a folder; ``writes`` are offset and bytes of what changes.

    ``watched``: the ranges that are compared, for disks too large to be read whole. ``qemu`` and ``dissect``: these
    readers know the image's kind, and its log changes one sector only where dissect, which ignores logs, is asked.
    ``audited``: its BAT is short enough for an audit of every state.
    """

    name: str
    build: Callable[[Path], object]
    writes: Mapping[int, bytes]
    count: int
    watched: Sequence[tuple[int, int]] | None = None
    qemu: bool = True
    dissect: bool = True
    fold: bool = True
    audited: bool = True

    def __str__(self) -> str:
        return self.name

    def commit(self, folder: Path, store: HostStore = OS_STORE) -> None:
        """The shipped code, from an opened image to its end."""
        with open_disk(folder / IMAGE) as disk, Overlay(disk) as overlay:
            for offset, data in self.writes.items():
                overlay.write_at(offset, data)
            steps = VhdxInPlaceCommit(overlay, Target("in-place", fold=self.fold), store, data_write_guid=NEW_GUID)
            steps.prepare(SILENT)
            steps.finish(SILENT)

    def content(self, folder: Path) -> bytes:
        """What our own reader makes of the image."""
        with open_disk(folder / IMAGE) as disk:
            return self.watch(disk)

    def watch(self, disk: VirtualDisk) -> bytes:
        return b"".join(disk.read_at(*part) for part in self.watched or [(0, disk.size)])

    def prepare(self, tmp_path: Path) -> tuple[Path, Expected]:
        """The folder with the image, and what its disk holds before and after."""
        folder = tmp_path / "files"
        folder.mkdir()
        self.build(folder)
        old = self.content(folder)
        with open_disk(folder / IMAGE) as disk, Overlay(disk) as overlay:
            for offset, data in self.writes.items():
                overlay.write_at(offset, data)
            new = b"".join(overlay.read_at(*part) for part in self.watched or [(0, disk.size)])
        assert old != new
        return folder, Expected(old, new)

    def record(self, folder: Path) -> Recording:
        return record(folder, lambda store: self.commit(folder, store))


# --- readers ---------------------------------------------------------------------------------------------------------


def by_us(scenario: Scenario, expected: Expected) -> Reader:
    return Reader("vhdtool", lambda folder: expected.view(scenario.content(folder)))


def after_recovery(scenario: Scenario, expected: Expected, *, every: int = 1) -> Reader:
    """The same disk as before ``recover``, which has nothing left to do, an image without a fault, no lent space."""

    def view(folder: Path) -> View:
        before = scenario.content(folder)
        recover_vhdx(str(folder / IMAGE), UNFLUSHED, SILENT)
        assert scenario.content(folder) == before
        assert recover_vhdx(str(folder / IMAGE), UNFLUSHED, SILENT) is None
        with open_disk(folder / IMAGE) as disk:
            assert disk.info.log == "clean"
            assert not [one for one in disk.info.problems if one.path == str(folder / IMAGE)]
            if not scenario.audited:
                return expected.view(before)
            findings = {one.code for one in audit_disk(disk).findings if one.severity != "info"}
            findings -= {"vhdx-header-reserved"} if scenario.name == "marked-headers" else set()
            assert not findings, findings
        return expected.view(before)

    return Reader("recover", view, every=every, changes=True)


def by_qemu(scenario: Scenario, expected: Expected, *, every: int) -> Reader:
    """``qemu-img check -r all``, which replays the log, then ``convert``."""
    qemu = require_tool("qemu-img")

    def view(folder: Path) -> View:
        raw = folder / "disk.raw"
        run(qemu, "check", "-q", "-f", "vhdx", "-r", "all", str(folder / IMAGE))
        run(qemu, "convert", "-f", "vhdx", "-O", "raw", str(folder / IMAGE), str(raw))
        with raw.open("rb") as file:
            if scenario.watched is None:
                return expected.view(file.read())
            parts = []
            for offset, length in scenario.watched:
                file.seek(offset)
                parts.append(file.read(length))
            return expected.view(b"".join(parts))

    return Reader("qemu-img", view, every=every, changes=True)


def by_dissect(scenario: Scenario, expected: Expected, *, every: int = 1) -> Reader:
    """A reader that does not look at logs."""
    from dissect.hypervisor.disk.vhdx import VHDX  # noqa: PLC0415

    def view(folder: Path) -> View:
        disk = VHDX(folder / IMAGE)
        try:
            pieces = []
            for offset, length in scenario.watched or [(0, disk.size)]:
                disk.seek(offset)
                # reads that stay in a block: it is wrong across blocks
                pieces += [disk.read(min(MIB, offset + length - at)) for at in range(offset, offset + length, MIB)]
            return expected.view(b"".join(pieces))
        finally:
            disk.fh.close()
            if disk.parent is not None:
                disk.parent.fh.close()

    return Reader("dissect", view, every=every)


# --- images ----------------------------------------------------------------------------------------------------------


def full(numbers: Sequence[int], size: int = MIB) -> dict[int, Block]:
    return {number: Block(data=pattern(number + 1, size)) for number in numbers}


def dynamic(folder: Path) -> None:
    blocks = full([1, 2, 5]) | {
        3: Block(BlockState.ZERO),
        6: Block(BlockState.UNMAPPED, data=pattern(66, MIB), keeps_space=True),
    }
    make(folder / IMAGE, virtual_size=8 * MIB, blocks=blocks, order=[5, 1, 6, 2])


def fixed(folder: Path) -> None:
    make(folder / IMAGE, virtual_size=4 * MIB + 4096, kind="fixed", blocks=full([0, 1, 2]))


def large_blocks(folder: Path) -> None:
    make(folder / IMAGE, virtual_size=9 * MIB, block_size=2 * MIB, blocks=full([0, 2, 4], 2 * MIB))


def large_sectors(folder: Path) -> None:
    make(folder / IMAGE, virtual_size=6 * MIB, logical_sector_size=4096, blocks=full([1, 2]))


def differencing(folder: Path, sector_size: int = 512) -> None:
    settings = {"virtual_size": 8 * MIB, "logical_sector_size": sector_size}
    make(folder / PARENT, blocks=full(range(8)), identity=PARENT_IDENTITY, **settings)
    bitmap = bitmap_of(set(range(8, 40)), MIB // sector_size)
    blocks = {
        1: Block(data=pattern(101, MIB)),
        2: Block(BlockState.PARTIALLY_PRESENT, data=pattern(102, MIB), bitmap=bitmap),
        3: Block(BlockState.ZERO),
        4: Block(BlockState.UNMAPPED, data=pattern(104, MIB), keeps_space=True),
    }
    make(folder / IMAGE, kind="differencing", blocks=blocks, parent=LINKAGE, **settings)


def wide(folder: Path) -> None:
    """Blocks in three sectors of the BAT."""
    make(folder / IMAGE, virtual_size=1200 * MIB, blocks=full([1, 600, 1100]))


def very_wide(folder: Path) -> None:
    """260 sectors of the BAT: more than a log of 1 MiB can change at once."""
    make(folder / IMAGE, virtual_size=260 * 512 * MIB, blocks=full([1, 600]))


def pending(folder: Path) -> None:
    """A log that is not replayed: it moves block 1 and changes a sector of block 2."""
    blocks = full([1, 2, 3])
    plan = make(folder / "plan.vhdx", virtual_size=8 * MIB, blocks=blocks)
    (folder / "plan.vhdx").unlink()
    entries = [encode_bat_entry(BlockState.NOT_PRESENT, 0)] * 8
    for block, place in {1: 3, 2: 2, 3: 1}.items():
        entries[block] = encode_bat_entry(BlockState.FULLY_PRESENT, plan.blocks[place])
    writes = [
        DataWrite(plan.bat_offset, b"".join(entries).ljust(4096, b"\0")),
        DataWrite(plan.blocks[2] + 8192, pattern(999, 4096)),
    ]
    log = PendingLog(LOG_GUID, [PendingEntry(writes)])
    make(folder / IMAGE, virtual_size=8 * MIB, blocks=blocks, log=log)


def marked_headers(folder: Path) -> None:
    """Headers with reserved bytes set, so that whole ones of 4 KiB are written, and torn."""
    dynamic(folder)
    for offset in fmt.HEADER_OFFSETS:
        change(folder / IMAGE, offset, fmt.HEADER_SIZE, lambda header: fmt.sealed(header[:3000] + b"?" + header[3001:]))


def odd_size(folder: Path) -> None:
    """As QEMU leaves it: the last block ends with the disk, the file with it."""
    make(folder / IMAGE, virtual_size=8 * MIB - 512 * 1024, block_size=2 * MIB, blocks=full([1, 3], 2 * MIB))
    path = folder / IMAGE
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 512 * 1024)


SMALL = {
    MIB + 5000: b"changed" * 100,
    2 * MIB - 700: b"across a border" * 100,
    3 * MIB + 512: b"once zeros" * 60,
    4 * MIB + 4096: pattern(70, 8192),
    6 * MIB + 1536: b"unmapped" * 64,
}
LARGE_PARTS = {3 * MIB: b"new" * 999, 5 * MIB: pattern(9, MIB), 9 * MIB - 50: b"!" * 50}
WIDE_PARTS = {block * MIB + 4096: pattern(block + 2000, 3000) for block in (1, 599, 600, 1100)}
VERY_WIDE_PARTS = {block * MIB + 512: pattern(block + 2000, 1024) for block in [1, *range(600, 260 * 512, 512)]}


def around(parts: Mapping[int, bytes]) -> list[tuple[int, int]]:
    """The blocks of 1 MiB in which something changes, or of many the start."""
    length = MIB if len(parts) < 20 else 8192
    return [(offset // MIB * MIB, length) for offset in parts]


SCENARIOS = (
    Scenario("dynamic", dynamic, SMALL, 170),
    Scenario("no-fold", dynamic, SMALL, 90, fold=False),
    Scenario("new-blocks-only", dynamic, {4 * MIB: b"new" * 1000, 7 * MIB: b"too"}, 60),
    Scenario("fixed", fixed, {4 * MIB - 512: b"end" * 1000, 100: b"start"}, 110),
    Scenario("large-blocks", large_blocks, LARGE_PARTS, 110),
    Scenario("large-sectors", large_sectors, {MIB + 4096: pattern(8, 4096), 5 * MIB: b"new"}, 90, qemu=False),
    Scenario("differencing", differencing, SMALL, 140, qemu=False),
    Scenario(
        "differencing-large-sectors", lambda folder: differencing(folder, 4096), SMALL, 60, qemu=False, dissect=False
    ),
    Scenario("wide", wide, WIDE_PARTS, 100, watched=around(WIDE_PARTS), dissect=False),
    Scenario(
        "very-wide", very_wide, VERY_WIDE_PARTS, 40, watched=around(VERY_WIDE_PARTS), dissect=False, audited=False
    ),
    Scenario("pending-log", pending, SMALL, 110, dissect=False),
    Scenario("marked-headers", marked_headers, SMALL, 110, dissect=False),
    Scenario("odd-size", odd_size, {3 * MIB: b"!" * 5000, 7 * MIB: b"?" * 5000}, 90),
)  # fmt: skip
