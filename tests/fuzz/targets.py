"""What is fuzzed: containers, partition tables, file systems, executables; hives and guests from their own modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

from tests.fuzz import inputs
from tests.fuzz.cli_targets import cli_targets
from tests.fuzz.fields_ntfs import ntfs_fields
from tests.fuzz.fields_partitions import gpt_fields, gpt_seals, mbr_fields
from tests.fuzz.fields_pe import pe_fields, pe_file
from tests.fuzz.fields_vhd import vhd_fields, vhd_seals
from tests.fuzz.fields_vhdx import vhdx_fields, vhdx_seals
from tests.fuzz.fields_volumes import ext_fields, fat_fields
from tests.fuzz.guest_targets import guest_targets
from tests.fuzz.hive_targets import hive_targets
from tests.fuzz.mutate import Base, Field, Seal
from tests.fuzz.target import Content, Located, Observation, Target
from tests.volume.memory import MemoryDevice
from vhdtool.disk.audit import audit_disk
from vhdtool.disk.chain import VirtualDisk, open_disk
from vhdtool.disk.device import BlockDevice, FileDevice
from vhdtool.errors import InputError, NotFoundError, RefusedError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.fs.fitness import refuse_unfit_hive, refuse_unfit_volume
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import check_touched, check_volume
from vhdtool.fs.read import open_filesystem
from vhdtool.fs.state import read_state
from vhdtool.package.pe import file_version, resource_string
from vhdtool.volume.partitions import Volume, read_volumes, volume_device

# --- partition tables and file systems -----------------------------------------------------------------------------


def _write(name: str, make: Callable[[], bytes]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / name).write_bytes(make())

    return build


def add_volumes(content: Content, device: BlockDevice, *, deep: bool, limit: int = 400) -> None:
    """The partition table; with ``deep`` also the first ``limit`` files of every file system."""
    table = read_volumes(device)
    content.add(table.scheme, table.disk_id, table.volumes)
    content.note(table.problems)
    for volume in table.volumes if deep else ():
        if volume.filesystem is None or volume.encryption:
            content.note(["unreadable"])
            continue
        inner = volume_device(device, volume)
        filesystem = open_filesystem(inner, volume)
        state = read_state(inner, volume, filesystem)
        content.add(state, filesystem.kind, filesystem.label)
        if state.dirty:
            content.note(["dirty"])
        add_files(content, filesystem, limit)


def add_files(content: Content, filesystem: GuestFilesystem, limit: int = 400, read: int = 1 << 18) -> None:
    """Every file by its directories, each directory once; ``limit`` entries in all."""
    pending = [("", None)]
    seen: set[int | None] = set()
    count = 0
    while pending:
        folder, record = pending.pop()
        if record is not None and record in seen:
            continue
        seen.add(record)
        try:
            entries = filesystem.list(folder or "/")
        except NotFoundError as error:
            content.note([error.code])
            continue
        for entry in entries:
            count += 1
            if count > limit:
                return
            path = f"{folder}/{entry.name}"
            content.add(path, entry)
            if entry.name.startswith("$") and not folder:
                continue
            if entry.kind == "directory":
                pending.append((path, entry.record))
            elif entry.kind == "file":
                try:
                    file = filesystem.open(path)
                    content.add(file.read_at(0, min(entry.size, read)))
                    file.extents()
                except (NotFoundError, InputError, RefusedError) as error:  # told of this one file
                    content.note([error.code])


def _run_volumes(name: str, *, deep: bool, limit: int = 400) -> Callable[[Path], Observation]:
    def run(folder: Path) -> Observation:
        content = Content()
        device = FileDevice(folder / name)
        try:
            add_volumes(content, device, deep=deep, limit=limit)
        finally:
            device.close()
        return content.seen()

    return run


def _run_ntfs_check(folder: Path) -> Observation:
    """Our own judge of NTFS, over the volume as a whole and as what became of the clean one; then the refusals."""
    content = Content()
    device = FileDevice(folder / "volume.img")
    try:
        content.note(check_volume(device))
        clean = MemoryDevice(inputs.seed("ntfs"))
        content.note(check_touched(clean, device, [(0, clean.size)], path="volume.img", overwritten=()))
        volume = Volume(0, 0, device.size, "none", "", None, "data", filesystem="ntfs")
        filesystem = NtfsFilesystem(device)
        refuse_unfit_volume(device, volume, filesystem, room=1)
        refuse_unfit_hive(filesystem, "/Windows/System32/config/big.bin")
    finally:
        device.close()
    return content.seen()


def _locate_mbr(files: Mapping[str, Base]) -> Located:
    return list(mbr_fields("disk.raw", files["disk.raw"])), []


def _locate_gpt(sector: int) -> Callable[[Mapping[str, Base]], Located]:
    def locate(files: Mapping[str, Base]) -> Located:
        base = files["disk.raw"]
        found = [*mbr_fields("disk.raw", base), *gpt_fields("disk.raw", base, 0, sector)]
        return found, gpt_seals("disk.raw", base, 0, sector)

    return locate


def _locate_ntfs(files: Mapping[str, Base]) -> Located:
    return list(ntfs_fields("volume.img", files["volume.img"])), []


def _locate_fat(files: Mapping[str, Base]) -> Located:
    return list(fat_fields("volume.img", files["volume.img"])), []


def _locate_ext(files: Mapping[str, Base]) -> Located:
    return list(ext_fields("volume.img", files["volume.img"])), []


def partition_targets() -> list[Target]:
    shallow = _run_volumes("disk.raw", deep=False)
    return [
        Target("mbr-extended", 4, _write("disk.raw", inputs.mbr_disk), shallow, _locate_mbr),
        Target("gpt-512", 4, _write("disk.raw", inputs.gpt_disk), shallow, _locate_gpt(512)),
        Target("gpt-4096", 2, _write("disk.raw", lambda: inputs.gpt_disk(4096)), shallow, _locate_gpt(4096)),
    ]


def filesystem_targets() -> list[Target]:
    deep = _run_volumes("volume.img", deep=True)
    some = _run_volumes("volume.img", deep=True, limit=25)
    return [
        Target("volume-ntfs", 12, _write("volume.img", lambda: inputs.seed("ntfs")), deep, _locate_ntfs),
        Target("check-ntfs", 3, _write("volume.img", lambda: inputs.seed("ntfs")), _run_ntfs_check, _locate_ntfs),
        Target("volume-features", 6, _write("volume.img", inputs.ntfs_features), deep, _locate_ntfs),
        Target("volume-fat", 2, _write("volume.img", lambda: inputs.seed("fat")), some, _locate_fat),
        Target("volume-ext", 2, _write("volume.img", lambda: inputs.seed("ext")), some, _locate_ext),
    ]


# --- containers ----------------------------------------------------------------------------------------------------

READ_HEAD = 8 << 20
READ_TAIL = 1 << 16
EXTENTS = 1 << 16


def add_disk(content: Content, disk: VirtualDisk) -> None:
    """The facts of a disk, its first 8 MiB and its end, and where they lie."""
    info = disk.info
    content.add(info.format, info.type, info.virtual_size, info.logical_sector_size, info.physical_sector_size)
    content.add(info.block_size, info.log, len(info.parents))
    buffer = bytearray(1 << 20)
    for offset in range(0, min(disk.size, READ_HEAD), len(buffer)):
        got = disk.read_into(offset, memoryview(buffer))
        content.add(bytes(buffer[:got]))
    content.add(disk.read_at(max(0, disk.size - READ_TAIL), READ_TAIL), disk.read_at(700, 5000))
    for extent in islice(disk.extents(), EXTENTS):
        content.add(extent.offset, extent.length, extent.kind)
    content.note(disk.info.problems)


def _run_disk(name: str) -> Callable[[Path], Observation]:
    def run(folder: Path) -> Observation:
        content = Content()
        with open_disk(folder / name) as disk:
            add_disk(content, disk)
        return content.seen()

    return run


def _run_audit(name: str) -> Callable[[Path], Observation]:
    """``disk verify`` without the second opinion: every structure, and what was found is reported."""

    def run(folder: Path) -> Observation:
        content = Content()
        with open_disk(folder / name) as disk:
            add_disk(content, disk)
            report = audit_disk(disk)
            content.note(finding.code for finding in report.findings)
        return content.seen()

    return run


def _locate_vhdx(files: Mapping[str, Base]) -> Located:
    found: list[Field] = []
    seals: list[Seal] = []
    for name, base in files.items():
        found += vhdx_fields(name, base)
        seals += vhdx_seals(name, base)
    return found, seals


def _locate_vhd(files: Mapping[str, Base]) -> Located:
    found: list[Field] = []
    seals: list[Seal] = []
    for name, base in files.items():
        found += vhd_fields(name, base)
        seals += vhd_seals(name, base)
    return found, seals


def disk_targets() -> list[Target]:
    def real_target(
        name: str, weight: int, file: str, locate: Callable[[Mapping[str, Base]], Located]
    ) -> Target | None:
        if not inputs.has_real(file):
            return None
        top = "disk." + Path(file).name.split(".")[1]
        return Target(
            name, weight, lambda folder: inputs.real(file, folder / top), _run_disk(top), locate, payload=False
        )

    vhdx, vhd = _run_disk("top.vhdx"), _run_disk("top.vhd")
    found = [
        Target("vhdx-dynamic", 8, inputs.vhdx_dynamic, vhdx, _locate_vhdx, payload=False),
        Target("vhdx-fixed", 2, inputs.vhdx_fixed, vhdx, _locate_vhdx, payload=False),
        Target("vhdx-log", 10, inputs.vhdx_log, vhdx, _locate_vhdx, payload=False),
        Target("vhdx-chain", 10, inputs.vhdx_chain, vhdx, _locate_vhdx, payload=False),
        Target("vhdx-chain-4k", 4, lambda folder: inputs.vhdx_chain(folder, 4096), vhdx, _locate_vhdx, payload=False),
        Target("vhd-fixed", 2, inputs.vhd_fixed, vhd, _locate_vhd, payload=False),
        Target("vhd-dynamic", 6, inputs.vhd_dynamic, vhd, _locate_vhd, payload=False),
        Target("vhd-chain", 8, inputs.vhd_chain, vhd, _locate_vhd, payload=False),
        Target("audit-vhdx", 4, inputs.vhdx_chain, _run_audit("top.vhdx"), _locate_vhdx, payload=False),
        Target("audit-vhdx-log", 3, inputs.vhdx_log, _run_audit("top.vhdx"), _locate_vhdx, payload=False),
        Target("audit-vhd", 4, inputs.vhd_chain, _run_audit("top.vhd"), _locate_vhd, payload=False),
        real_target("real-vhdx", 2, "vhd/fox-it__dissect.hypervisor/dynamic.vhdx.gz", _locate_vhdx),
        real_target("real-vhdx-log", 2, "vhd/LTRData__DiscUtils/vhdx-log-replay.vhdx.gz", _locate_vhdx),
        real_target("real-vhd", 2, "vhd/fox-it__dissect.hypervisor/dynamic.vhd.gz", _locate_vhd),
    ]
    return [target for target in found if target is not None]


# --- executables ---------------------------------------------------------------------------------------------------


def _run_pe(folder: Path) -> Observation:
    content = Content()
    file = FileDevice(folder / "file.dll")
    try:
        version = file_version(file, path="file.dll")
        content.add(version, resource_string(file, 97, path="file.dll"))
        if version is None:
            content.note(["no-version"])
    finally:
        file.close()
    return content.seen()


def _locate_pe(files: Mapping[str, Base]) -> Located:
    return pe_fields("file.dll", files["file.dll"]), []


def executable_targets() -> list[Target]:
    return [Target("pe", 4, _write("file.dll", pe_file), _run_pe, _locate_pe)]


def all_targets() -> list[Target]:
    """Every target; those of real files where the collection is here."""
    return [
        *partition_targets(),
        *filesystem_targets(),
        *disk_targets(),
        *executable_targets(),
        *hive_targets(),
        *guest_targets(),
        *cli_targets(),
    ]
