"""Disk images with a Windows tree, made with public tools alone: mkntfs, wimlib-imagex, sgdisk, sfdisk, qemu-img.

No mount and no root: wimlib writes the tree straight onto a volume in a file through libntfs-3g. Nothing of vhdtool
takes part, so what vhdtool reads from such a guest is not its own word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
NTFS_TOOLS = ("mkntfs", "wimlib-imagex")
TOOLS = (*NTFS_TOOLS, "sgdisk", "sfdisk", "qemu-img")
HIVEX_PYTHON = "/usr/bin/python3"
"""The system's Python: Debian's hivex module is built for it alone."""

CONFIG = "Windows/System32/config"
_ESP_SIZE = 4 * MIB
_MSR_SIZE = 16 * MIB
_EXTENSIONS = {"vhdx": "vhdx", "vhd": "vhd", "raw": "raw"}
_QEMU_FORMATS = {"vhdx": "vhdx", "vhd": "vpc", "raw": "raw"}


@dataclass(frozen=True, slots=True)
class ForeignToolError(Exception):
    """A public tool did not do what it was asked; ``output`` is what it printed."""

    command: tuple[str, ...]
    returncode: int
    output: str

    def __str__(self) -> str:
        return f"{self.command[0]} ended {self.returncode}: {self.output[-800:]}"


def call(*command: str | os.PathLike[str], data: bytes | None = None, timeout: float = 900) -> bytes:
    """Run a tool and give its stdout; raises :class:`ForeignToolError`, with what it printed, where it fails."""
    words = tuple(os.fspath(word) for word in command)
    source: dict[str, object] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(words, capture_output=True, timeout=timeout, check=False, **source)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise ForeignToolError(words, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))
    return bytes(done.stdout)


def build_guest(
    folder: Path,
    *,
    system_hive: Path | bytes | None = None,
    software_hive: Path | bytes | None = None,
    logs: Mapping[str, Path | bytes] | None = None,
    extra_files: Mapping[str, Path | bytes] | None = None,
    container: str = "vhdx",
    options: str = "",
    scheme: str = "gpt",
    cluster_size: int = 4096,
    free_space: int = 24 * MIB,
    name: str = "guest",
) -> Path:
    """Build the image of a stopped guest and return its path.

    ``logs`` are files beside the hives (``SYSTEM.LOG1``); ``extra_files`` maps paths from the volume's root to
    contents. ``container`` is vhdx, vhd or raw; ``options`` goes to ``qemu-img convert -o``. ``scheme`` is gpt (ESP,
    MSR, Windows), mbr (one primary partition), mbr-extended (a logical drive) or none (a bare volume).
    """
    files: dict[str, Path | bytes] = {}
    if system_hive is not None:
        files[f"{CONFIG}/SYSTEM"] = system_hive
    if software_hive is not None:
        files[f"{CONFIG}/SOFTWARE"] = software_hive
    files |= {f"{CONFIG}/{log}": content for log, content in (logs or {}).items()}
    files |= extra_files or {}
    folder.mkdir(parents=True, exist_ok=True)
    volume = folder / f"{name}.ntfs"
    make_ntfs(volume, files, cluster_size=cluster_size, free_space=free_space)
    raw = folder / f"{name}.raw"
    compose_disk(raw, volume, scheme=scheme)
    volume.unlink()
    if container == "raw":
        return raw
    image = folder / f"{name}.{_EXTENSIONS[container]}"
    convert(raw, image, container, options)
    raw.unlink()
    return image


def make_ntfs(
    volume: Path,
    files: Mapping[str, Path | bytes],
    *,
    directories: Iterable[str] = ("Windows/System32/drivers", "Windows/System32/config", "Users", "Program Files"),
    cluster_size: int = 4096,
    free_space: int = 24 * MIB,
    sector_size: int = 512,
    label: str = "Windows",
) -> None:
    """Write a file with an NTFS volume that holds ``files``, as large as they need and ``free_space`` more."""
    tree = volume.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    for directory in directories:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    total = 0
    for path, content in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
        total += -(-target.stat().st_size // cluster_size) * cluster_size
    size = -(-(total + free_space) // MIB) * MIB
    format_ntfs(volume, size, cluster_size=cluster_size, sector_size=sector_size, label=label)
    apply_tree(tree, volume)
    shutil.rmtree(tree)


def format_ntfs(
    volume: Path, size: int, *, cluster_size: int = 4096, sector_size: int = 512, label: str = "Windows"
) -> None:
    """Make an empty NTFS volume in a sparse file of ``size`` bytes."""
    with volume.open("wb") as file:
        file.truncate(size)
    geometry = ("-s", str(sector_size), "-p", "2048", "-H", "255", "-S", "63", "-c", str(cluster_size))
    call("mkntfs", "--quick", "--force", *geometry, "-L", label, volume)


def apply_tree(tree: Path, volume: Path) -> None:
    """Put a directory tree onto an NTFS volume in a file, without mounting it."""
    archive = volume.with_suffix(".wim")
    archive.unlink(missing_ok=True)
    call("wimlib-imagex", "capture", tree, archive, "--compress=none", "--quiet")
    call("wimlib-imagex", "apply", archive, "1", volume, "--quiet")
    archive.unlink()


def compose_disk(raw: Path, volume: Path, *, scheme: str = "gpt", disk_size: int | None = None) -> int:
    """Write a raw disk whose last partition is ``volume``; return the partition's offset in bytes."""
    place = _PARTITIONERS[scheme](raw, volume.stat().st_size, disk_size)
    copy_sparse(volume, raw, place)
    return place


def _gpt(raw: Path, size: int, disk_size: int | None) -> int:
    start = MIB + _ESP_SIZE + _MSR_SIZE
    _truncate(raw, disk_size or start + size + MIB)
    esp, msr, windows = MIB // 512, (MIB + _ESP_SIZE) // 512, start // 512
    call(
        "sgdisk", "--set-alignment=1", "--clear",
        f"--new=1:{esp}:{msr - 1}", "--typecode=1:ef00", "--change-name=1:EFI system partition",
        f"--new=2:{msr}:{windows - 1}", "--typecode=2:0c01", "--change-name=2:Microsoft reserved partition",
        f"--new=3:{windows}:{windows + size // 512 - 1}", "--typecode=3:0700", "--change-name=3:Basic data partition",
        raw,
    )  # fmt: skip
    return start


def _mbr(raw: Path, size: int, disk_size: int | None) -> int:
    _truncate(raw, disk_size or MIB + size + MIB)
    table = f"label: dos\nstart={MIB // 512}, size={size // 512}, type=7, bootable\n"
    call("sfdisk", "--quiet", raw, data=table.encode())
    return MIB


def _mbr_extended(raw: Path, size: int, disk_size: int | None) -> int:
    start = 4 * MIB
    _truncate(raw, disk_size or start + size + MIB)
    table = (
        f"label: dos\nstart={MIB // 512}, size={MIB // 512}, type=7\n"
        f"start={2 * MIB // 512}, size={(2 * MIB + size) // 512}, type=f\n"
        f"start={start // 512}, size={size // 512}, type=7\n"
    )
    call("sfdisk", "--quiet", raw, data=table.encode())
    return start


def _bare(raw: Path, size: int, disk_size: int | None) -> int:
    _truncate(raw, disk_size or size)
    return 0


_PARTITIONERS: Mapping[str, Callable[[Path, int, int | None], int]] = {
    "gpt": _gpt,
    "mbr": _mbr,
    "mbr-extended": _mbr_extended,
    "none": _bare,
}


def _truncate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def copy_sparse(source: Path, target: Path, place: int = 0) -> None:
    """Copy the stored parts of ``source`` into ``target`` from offset ``place``; holes are left as they are."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        end = reader.seek(0, os.SEEK_END)
        position = 0
        while position < end:
            try:
                start = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole to the end
                break
            position = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            reader.seek(start)
            writer.seek(place + start)
            left = position - start
            while left:
                chunk = reader.read(min(left, 4 * MIB))
                writer.write(chunk)
                left -= len(chunk)


def convert(raw: Path, image: Path, container: str, options: str = "") -> None:
    """Convert a raw disk with qemu-img; a VHD gets the exact size of the disk unless ``options`` says otherwise."""
    if container == "vhd" and "force_size" not in options:
        options = ",".join(filter(None, (options, "force_size=on")))
    arguments = ("-o", options) if options else ()
    call("qemu-img", "convert", "-f", "raw", "-O", _QEMU_FORMATS[container], *arguments, raw, image)


_HIVEX_READ = r"""
import hivex, json, sys
hive = hivex.Hivex(sys.argv[1])
def find(path):
    node = hive.root()
    for part in path.split("\\"):
        node = hive.node_get_child(node, part)
        if node is None:
            return None
    return node
def dword(node, name):
    for value in hive.node_values(node):
        if hive.value_key(value).lower() == name.lower() and hive.value_type(value)[0] == 4:
            return hive.value_dword(value) & 0xFFFFFFFF
    return None
current = dword(find("Select"), "Current")
services = {}
for node in hive.node_children(find("ControlSet%03d\\Services" % current)):
    override = hive.node_get_child(node, "StartOverride")
    services[hive.node_name(node)] = [
        dword(node, "Start"), None if override is None else dword(override, "0"),
    ]
print(json.dumps({"current": current, "services": services}))
"""

_HIVEX_WRITE = r"""
import hivex, json, struct, sys
hive = hivex.Hivex(sys.argv[1], write=True)
for path, name, kind, value in json.load(sys.stdin):
    node = hive.root()
    for part in filter(None, path.split("\\")):
        child = hive.node_get_child(node, part)
        node = hive.node_add_child(node, part) if child is None else child
    if name is None:
        continue
    if kind == 1:
        raw = (value + "\0").encode("utf-16le")
    elif kind == 4:
        raw = struct.pack("<I", value)
    else:
        raw = bytes.fromhex(value)
    hive.node_set_value(node, {"key": name, "t": kind, "value": raw})
hive.commit(None)
"""

RegistryEdit = tuple[str, str | None, int, str | int]
"""Key path, value name (``None``: only the key), type (1 REG_SZ, 4 REG_DWORD, others with hexadecimal data), data."""


@dataclass(frozen=True, slots=True)
class HivexServices:
    """What hivex reads of a SYSTEM hive: the control set, and ``(Start, StartOverride 0)`` of each service."""

    current: int
    services: Mapping[str, tuple[int | None, int | None]]


def has_hivex() -> bool:
    """Tell whether the system's Python has the hivex module."""
    if not Path(HIVEX_PYTHON).exists():
        return False
    probe = subprocess.run((HIVEX_PYTHON, "-c", "import hivex"), capture_output=True, check=False, timeout=60)
    return probe.returncode == 0


def hivex_services(hive: Path) -> HivexServices:
    """Read the services of a clean SYSTEM hive with hivex."""
    answer = json.loads(call(HIVEX_PYTHON, "-c", _HIVEX_READ, hive))
    services = {name: (start, override) for name, (start, override) in answer["services"].items()}
    return HivexServices(answer["current"], services)


def hivex_edit(hive: Path, edits: Iterable[RegistryEdit]) -> None:
    """Change a hive file with hivex: keys are created as needed."""
    call(HIVEX_PYTHON, "-c", _HIVEX_WRITE, hive, data=json.dumps(list(edits)).encode())


def software_hive(
    seed: Path,
    target: Path,
    *,
    product: str,
    build: str,
    version: str,
    edition: str,
    revision: int | None = None,
    client: bool = True,
) -> Path:
    """Make a SOFTWARE hive that tells which Windows this is, from any small hive (hivex's ``minimal``)."""
    shutil.copyfile(seed, target)
    target.chmod(0o644)
    key = "Microsoft\\Windows NT\\CurrentVersion"
    edits: list[RegistryEdit] = [
        (key, "ProductName", 1, product),
        (key, "CurrentVersion", 1, version),
        (key, "CurrentBuild", 1, build),
        (key, "CurrentBuildNumber", 1, build),
        (key, "EditionID", 1, edition),
        (key, "InstallationType", 1, "Client" if client else "Server"),
        (key, "SystemRoot", 1, "C:\\Windows"),
        ("Microsoft\\Windows\\CurrentVersion\\Setup\\State", "ImageState", 1, "IMAGE_STATE_COMPLETE"),
    ]
    if build.startswith(("1", "2")):
        edits += [(key, "CurrentMajorVersionNumber", 4, 10), (key, "CurrentMinorVersionNumber", 4, 0)]
    if revision is not None:
        edits.append((key, "UBR", 4, revision))
    hivex_edit(target, edits)
    return target
