"""Commands that change the lifelike guest: a service, in a child and in place, and a big file."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.benchmark.measure import VHDTOOL, Median, Sample, interleaved, run_command
from scripts.benchmark.tools import call, say

MIB = 1 << 20
BIG_FILE = 200 * MIB
SERVICE = "vmickvpexchange"


def child_runs(folder: Path, images: dict[str, Path], runs: int) -> Iterator[tuple[str, Median, int]]:
    """``services set --child`` on the clean images: name, times, size of the child in bytes."""
    for name, image in images.items():
        if name.startswith("dirty"):
            continue
        child = folder / "changed.vhdx"
        say(f"measuring services set --child on {name}")
        command = [*VHDTOOL, "services", "set", str(image), f"{SERVICE}=disabled", "--child", str(child), "--json"]
        medians = interleaved({"set": partial(_anew, command, child)}, runs)
        yield name, medians["set"], child.stat().st_size
        child.unlink()


def in_place_runs(folder: Path, image: Path, runs: int) -> tuple[Median, int, int]:
    """``services set --in-place`` on a copy, back and forth: times, and the file's size before and after."""
    copy = folder / "in-place.vhdx"
    say(f"measuring services set --in-place on {image.name}")
    call("cp", "--sparse=always", "--reflink=auto", image, copy)
    before = copy.stat().st_size
    starts = itertools.cycle(("disabled", "auto"))

    def change() -> Sample:
        return run_command(
            [*VHDTOOL, "services", "set", str(copy), f"{SERVICE}={next(starts)}", "--in-place", "--json"]
        )

    medians = interleaved({"set": change}, runs)
    after = copy.stat().st_size
    copy.unlink()
    return medians["set"], before, after


def put_runs(folder: Path, image: Path, runs: int) -> dict[str, Median]:
    """A file of 200 MiB put into a child, against ``ntfscp`` into a raw volume, which confirms nothing."""
    big, child, volume = folder / "big.bin", folder / "put.vhdx", folder / "put.ntfs"
    if not big.exists():
        big.write_bytes(b"".join(number.to_bytes(8, "little") * 512 for number in range(BIG_FILE // 4096)))
    with volume.open("wb") as file:
        file.truncate(1 << 30)
    call("mkntfs", "-F", "-Q", "-q", volume)
    say("measuring put of 200 MiB")
    put = [*VHDTOOL, "put", str(image), str(big), "/big.bin", "--child", str(child), "--json"]
    medians = interleaved(
        {
            "vhdtool put --child": partial(_anew, put, child),
            "ntfscp": partial(run_command, [shutil.which("ntfscp") or "ntfscp", str(volume), str(big), "/big.bin"]),
        },
        runs,
    )
    for path in (child, volume, big):
        path.unlink(missing_ok=True)
    return medians


def _anew(command: list[str], made: Path) -> Sample:
    made.unlink(missing_ok=True)
    return run_command(command)
