"""Builds the 40 GiB guest that is like life: real SYSTEM hive, large SOFTWARE hive, both in many pieces, a full MFT.

Only public tools write the volume: mkntfs, wimlib, ntfsfallocate, ntfstruncate, ntfscp. Pieces are made as years make
them: the free space is cut into holes, and the hives are then written into the holes.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.benchmark.hives import clean_hives, dirty_hives
from scripts.benchmark.tools import BenchmarkError, call, real_file, require, say
from tests.guests import CONFIG, MIB, apply_tree, compose_disk, format_ntfs

GIB = 1 << 30
DISK_SIZE = 40 * GIB
SYSTEM32_NAMES = 4000
MFT_RECORDS = 101_000
FRAGMENTS = 20
_FRAGMENTED = ("SYSTEM", "SOFTWARE")
_VOLUME_SIZE = DISK_SIZE - 32 * MIB
_HOLES = 480
_BETWEEN_HOLES = 16 * MIB
_COMB = "Windows/Temp"
_CAB = "cab/marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab"
_GENUINE = {
    "icsvc.dll": "Windows/System32/icsvc.dll",
    "vmicres.dll": "Windows/System32/vmicres.dll",
    "vmbus.sys": "Windows/System32/drivers/vmbus.sys",
}


@dataclass(frozen=True, slots=True)
class LifelikeFacts:
    """What was built: pieces of each hive by name, file records in use, names in System32."""

    fragments: dict[str, int]
    hive_sizes: dict[str, int]
    mft_records: int
    system32_names: int


def images(folder: Path) -> dict[str, Path]:
    """Build what is not there yet and give the images by name: clean ones of two block sizes, and a dirty one."""
    wanted = {f"{name}, {size} MiB blocks": (name, size) for name, size in (("clean", 2), ("clean", 32), ("dirty", 2))}
    result = {title: folder / f"{name}-{size}m.vhdx" for title, (name, size) in wanted.items()}
    for kind in ("clean", "dirty"):
        missing = {
            size: result[title] for title, (name, size) in wanted.items() if name == kind and not result[title].exists()
        }
        if missing:
            say(f"building the {kind} guest in {folder}: this takes minutes")
            raw, facts = build_volume(folder, kind, clean_hives(folder) if kind == "clean" else dirty_hives(folder))
            for size, image in missing.items():
                partial = image.with_suffix(".partial")
                call("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", f"block_size={size}M", raw, partial)
                partial.rename(image)
            raw.unlink()
            (folder / "lifelike.json").write_text(json.dumps(asdict(facts)))
    return result


def build_volume(folder: Path, name: str, hives: Mapping[str, Path]) -> tuple[Path, LifelikeFacts]:
    """Write the raw 40 GiB disk (sparse) and return it with what is on it."""
    require("mkntfs", "wimlib-imagex", "ntfsfallocate", "ntfstruncate", "ntfscp", "ntfscluster", "sgdisk", "cabextract")
    tree = folder / "tree"
    if not tree.exists():
        say("  writing a tree of 100,000 files")
        _write_tree(tree, folder)
    volume = folder / f"{name}.ntfs"
    say(f"  {name}: NTFS of {_VOLUME_SIZE >> 20} MiB with the tree on it")
    format_ntfs(volume, _VOLUME_SIZE)
    apply_tree(tree, volume)
    say(f"  {name}: cutting the free space into {_HOLES} holes and writing the hives into them")
    _write_in_pieces(volume, hives)
    facts = LifelikeFacts(
        {hive: _pieces(volume, f"{CONFIG}/{hive}") for hive in _FRAGMENTED},
        {hive: path.stat().st_size for hive, path in hives.items()},
        MFT_RECORDS,
        SYSTEM32_NAMES,
    )
    for hive, pieces in facts.fragments.items():
        if pieces < FRAGMENTS:
            raise BenchmarkError(f"{hive} lies in {pieces} pieces, fewer than {FRAGMENTS}")
    raw = folder / f"{name}.raw"
    compose_disk(raw, volume, disk_size=DISK_SIZE)
    volume.unlink()
    return raw, facts


def _write_tree(tree: Path, folder: Path) -> None:
    """Write the files that a Windows has: most of them small, their names from a fixed seed."""
    rng = random.Random(20)
    partial = tree.with_name("tree.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for path in (CONFIG, _COMB, "Windows/System32/drivers", "Windows/WinSxS", "Users/Public", "Program Files"):
        (partial / path).mkdir(parents=True, exist_ok=True)
    cab = folder / "cab"
    call("cabextract", "-q", "-d", cab, real_file(_CAB))
    for name, target in _GENUINE.items():
        shutil.copyfile(next(path for path in sorted(cab.rglob(name))), partial / target)
    shutil.rmtree(cab)
    records = 64
    for folder_name, count in (("Windows/System32", SYSTEM32_NAMES), ("Windows/System32/drivers", 420)):
        place = partial / folder_name
        present = sum(1 for _ in place.iterdir())
        for index in range(count - present):
            _write_file(place / f"{_word(rng)}{index:04x}.{rng.choice(('dll', 'exe', 'mui', 'sys'))}", rng)
        records += count
    holes = [f"hole{index:04d}" for index in range(_HOLES)] + [f"between{index:04d}" for index in range(_HOLES)]
    for name in (*holes, "rest"):
        (partial / _COMB / name).touch()
    records += len(holes) + 1
    component = 0
    while records < MFT_RECORDS:
        place = partial / "Windows/WinSxS" / f"amd64_{_word(rng)}-{_word(rng)}_31bf3856ad364e35_{component:08x}"
        place.mkdir()
        for index in range(min(rng.randint(4, 40), MFT_RECORDS - records)):
            _write_file(place / f"{_word(rng)}{index:02x}.dll", rng)
            records += 1
        records += 1
        component += 1
    partial.rename(tree)


def _word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghilmnoprstuvw") for _ in range(rng.randint(4, 12)))


def _write_file(path: Path, rng: random.Random) -> None:
    size = rng.randint(0, 500) if rng.random() < 0.85 else rng.randint(3000, 24000)
    path.write_bytes((b"MZ" + path.name.encode()).ljust(size, b"\x90"))


def _write_in_pieces(volume: Path, hives: Mapping[str, Path]) -> None:
    rng = random.Random(21)
    for index in range(_HOLES):
        hole = rng.randint(8, 90) * 4096
        call("ntfsfallocate", "-l", str(hole), volume, f"{_COMB}/hole{index:04d}")
        call("ntfsfallocate", "-l", str(_BETWEEN_HOLES), volume, f"{_COMB}/between{index:04d}")
    call("ntfsfallocate", "-l", str(_free_bytes(volume) - 8 * MIB), volume, f"{_COMB}/rest")
    inodes = _inodes(volume)
    for index in range(_HOLES):
        call("ntfstruncate", volume, inodes[f"hole{index:04d}"], "0x80", "0")
    for name, source in hives.items():
        call("ntfscp", "-q", "-f", volume, source, f"{CONFIG}/{name}")
    for name in ("rest", *(f"between{index:04d}" for index in range(_HOLES))):
        call("ntfstruncate", volume, inodes[name], "0x80", "0")


def _inodes(volume: Path) -> dict[str, str]:
    """The file record of each file that holds space for a while, by name: ntfstruncate takes nothing else."""
    lines = call("ntfsls", "-i", "-p", f"/{_COMB}", volume).splitlines()
    return {words[1]: words[0] for words in map(str.split, lines) if len(words) == 2}


def _free_bytes(volume: Path) -> int:
    for line in call("ntfsinfo", "-m", volume).splitlines():
        if "Free Clusters" in line:
            return int(line.split(":")[1].split()[0]) * 4096
    raise BenchmarkError("ntfsinfo does not tell the free clusters")


def _pieces(volume: Path, path: str) -> int:
    """Count the runs of a file's data as ntfscluster prints them."""
    lines = call("ntfscluster", "-q", "-F", f"/{path}", volume).splitlines()
    data = next(index for index, line in enumerate(lines) if "0x80" in line)
    pieces = 0
    for line in lines[data + 1 :]:
        words = line.split()
        if len(words) == 3 and words[0].isdigit():
            pieces += 1
        elif "0x" in line:
            break
    return pieces
