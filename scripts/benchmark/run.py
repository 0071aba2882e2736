"""The benchmark's command line: builds the images, measures, prints the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from scripts.benchmark import changes, lifelike, sequential, staging
from scripts.benchmark.measure import VHDTOOL, Median, Sample, bytes_read, forget, interleaved, run_command, timed
from scripts.benchmark.table import Row, machine, rendered, write_document
from scripts.benchmark.tools import BenchmarkError, call, require, say

MIB = 1 << 20
TIB = 1 << 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; ends 1 where a target is missed, 2 where it can't be run here."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    parser.add_argument("--work", type=Path, help="keep the images in this folder and take them from there (2.5 GB)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each contestant, of which the median counts")
    parser.add_argument("--only", nargs="*", choices=tuple(PARTS), default=tuple(PARTS), help="measure these alone")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    options = parser.parse_args(arguments)
    try:
        require("qemu-img", "strace")
        with tempfile.TemporaryDirectory(prefix="vhdtool-bench-") as temporary:
            folder = options.work or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            rows = [row for part in options.only for row in PARTS[part](folder, options.runs)]
    except BenchmarkError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    text = f"{machine()}\n\nMedians of {options.runs} runs (fastest to slowest).\n\n{rendered(rows)}"
    print(text)
    if options.write:
        write_document(text)
    return int(any(row.met is False for row in rows))


def measure_start(_: Path, runs: int) -> Iterator[Row]:
    """``vhdtool --help`` against a Python that does nothing."""
    say("measuring --help")
    medians = interleaved(
        {
            "vhdtool --help": lambda: run_command([*VHDTOOL, "--help"]),
            "python -c pass": lambda: run_command([sys.executable, "-c", "pass"]),
        },
        runs,
    )
    yield _bounded("vhdtool --help", medians["vhdtool --help"], seconds=0.12)
    yield Row("a Python that does nothing", _time(medians["python -c pass"]))


def measure_inspect(folder: Path, runs: int) -> Iterator[Row]:
    """``inspect`` and ``version`` on the lifelike guest, with the peer, warm and cold, and the bytes they read."""
    images = lifelike.images(folder)
    facts = json.loads((folder / "lifelike.json").read_text())
    yield Row("the guest", f"{facts['mft_records']:,} file records, {facts['system32_names']:,} names in System32")
    for hive, pieces in facts["fragments"].items():
        yield Row(f"its {hive} hive", f"{facts['hive_sizes'][hive] / MIB:.1f} MiB in {pieces} pieces")
    for name, image in images.items():
        inspect = [*VHDTOOL, "inspect", str(image), "--json"]
        version = [*VHDTOOL, "version", str(image), "--json"]
        target_query = [str(Path(sys.executable).with_name("target-query")), "-q", "-f", "services", "-j", str(image)]
        limit = 0.6 if name.startswith("dirty") else 0.35
        say(f"measuring {name}, warm")
        contestants = {
            "inspect": partial(run_command, inspect),
            "version": partial(run_command, version),
            "peer": partial(run_command, target_query),
        }
        warm = interleaved(contestants, runs)
        say(f"measuring {name}, cold")
        cold = interleaved(contestants, runs, cold=[image])
        yield _bounded(f"{name}: inspect --json, warm", warm["inspect"], seconds=limit, memory=90)
        yield Row(f"{name}: the same, processor time", _duration(warm["inspect"].processor))
        yield Row(f"{name}: inspect --json, cold", _time(cold["inspect"]))
        yield Row(f"{name}: version --json, warm", _time(warm["version"]))
        yield Row(f"{name}: version --json, cold", _time(cold["version"]))
        yield Row(f"{name}: target-query -f services, warm", _time(warm["peer"]))
        yield Row(f"{name}: target-query -f services, cold", _time(cold["peer"]))
        ratio = warm["peer"].seconds / warm["inspect"].seconds
        yield Row(f"{name}: inspect is faster than target-query by", f"{ratio:.1f} x")
        yield _bytes(f"{name}: read by inspect", bytes_read(inspect, image), _limit(name, 8))
        yield _bytes(f"{name}: read by version", bytes_read(version, image), _limit(name, 2))
        yield _bytes(f"{name}: read by target-query", bytes_read(target_query, image), None)


def _limit(name: str, mib: int) -> int | None:
    """The bounds on bytes hold for clean hives: a dirty one has its logs read whole."""
    return None if name.startswith("dirty") else mib


def measure_sequential(folder: Path, runs: int) -> Iterator[Row]:
    """One GiB of data through the device into one reused buffer, against ``cat`` of the file."""
    image = sequential.build_image(folder)
    for state, files in (("warm", []), ("cold", [image])):
        say(f"measuring sequential reads, {state}")
        medians = interleaved(sequential.contestants(image), runs, cold=files)
        base = medians["cat FILE"].seconds / image.stat().st_size
        for name, median in medians.items():
            size = image.stat().st_size if name == "cat FILE" else sequential.DATA
            share = base / (median.seconds / size)
            value = f"{size / MIB / median.seconds:,.0f} MiB/s, {share:.2f} x of cat ({_time(median)})"
            ours = name == "vhdtool" and state == "warm"
            bound = ("0.8 x of cat", share >= 0.8) if ours else ("", None)
            yield Row(f"1 GiB in sequence, {name}, {state}", value, *bound)


def measure_open(folder: Path, runs: int) -> Iterator[Row]:
    """Opening an 8 TiB disk with the largest table there is, and reading its last sector."""
    from vhdtool.disk.chain import open_disk  # noqa: PLC0415  # measured without the import

    image = folder / "8tib.vhdx"
    if not image.exists():
        call("qemu-img", "create", "-f", "vhdx", "-o", "block_size=1M", image, str(8 * TIB))

    def opened() -> Sample:
        return timed(lambda: open_disk(image).close())

    def read() -> None:
        with open_disk(image) as disk:
            disk.read_at(disk.size - 512, 512)

    say("measuring an 8 TiB disk")
    for state, files in (("warm", []), ("cold", [image])):
        medians = interleaved({"open": opened, "read": lambda: timed(read)}, max(runs, 25), cold=files)
        yield _bounded(f"8 TiB disk, 1 MiB blocks: open, {state}", medians["open"], seconds=0.02)
        yield Row(f"8 TiB disk: open and read the last sector, {state}", _time(medians["read"]))
    forget(image)


def measure_changes(folder: Path, runs: int) -> Iterator[Row]:
    """``services set`` and ``put``, with all opinions, on the lifelike guest."""
    images = lifelike.images(folder)
    for name, median, child_size in changes.child_runs(folder, images, runs):
        yield _bounded(f"{name}: services set --child, opinions included", median, seconds=0.6, memory=200)
        yield Row(f"{name}: the child's size", f"{child_size / MIB:.1f} MiB", "8 MiB", child_size <= 8 * MIB)
    big = images["clean, 32 MiB blocks"]
    median, before, after = changes.in_place_runs(folder, big, max(2, runs // 2))
    yield Row("32 MiB blocks: services set --in-place, fold-back included", _time(median))
    yield Row("32 MiB blocks: peak memory of it", f"{median.peak_mib:.0f} MiB", "200 MB", median.peak_mib * MIB <= 2e8)
    yield Row("32 MiB blocks: the file grew by", f"{after - before} bytes", "0 bytes", after <= before)
    puts = changes.put_runs(folder, images["clean, 2 MiB blocks"], max(2, runs // 2))
    put = puts["vhdtool put --child"]
    rate = changes.BIG_FILE / put.seconds / 1e6
    yield Row("put of 200 MiB --child, opinions included", f"{rate:.0f} MB/s, {_time(put)}", "100 MB/s", rate >= 100)
    yield Row("put: peak memory", f"{put.peak_mib:.0f} MiB", "200 MB", put.peak_mib * MIB <= 2e8)
    peer = puts["ntfscp"]
    yield Row("put: against ntfscp, which confirms nothing", f"{put.seconds / peer.seconds:.1f} x its {_time(peer)}")


def measure_staging(folder: Path, runs: int) -> Iterator[Row]:
    """The commands about packages, and ``stage`` against virt-customize on the same guest."""
    require("cabextract")
    medians = staging.cabinet_runs(runs)
    yield _bounded("cab show of a genuine cabinet", medians["cab show"], seconds=0.4)
    yield _bounded("cab verify of it, all four layers", medians["cab verify"], seconds=0.9)
    ratio, few, many = staging.many_files_ratio(folder, runs)
    yield Row(
        "2,000 files in one LZX folder against 200",
        f"{ratio:.1f} x ({_time(many)} to {_time(few)})",
        "12 x",
        ratio <= 12,
    )
    image = staging.guest(folder, lifelike.images(folder)["clean, 2 MiB blocks"])
    stage = staging.stage_runs(folder, image, runs)
    yield _bounded("stage --child of it, verification and opinions included", stage, seconds=2, memory=200)
    peer = staging.customize_runs(folder, image, max(2, runs // 3))
    if peer is not None:
        median, how = peer
        yield Row(
            f"virt-customize --upload of it, {how}", f"{_time(median)}, {median.seconds / stage.seconds:.0f} x stage"
        )


PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "start": measure_start,
    "inspect": measure_inspect,
    "sequential": measure_sequential,
    "open": measure_open,
    "changes": measure_changes,
    "staging": measure_staging,
}


def _bounded(subject: str, median: Median, *, seconds: float, memory: int | None = None) -> Row:
    value, target, met = _time(median), f"{_duration(seconds)}", median.seconds <= seconds
    if memory is not None:
        value += f", {median.peak_mib:.0f} MiB"
        target += f", {memory} MB"
        met = met and median.peak_mib * MIB <= memory * 1_000_000
    return Row(subject, value, target, met)


def _bytes(subject: str, count: int, limit: int | None) -> Row:
    value = f"{count / 1_000_000:.2f} MB"
    if limit is None:
        return Row(subject, value)
    return Row(subject, value, f"{limit} MB", count <= limit * 1_000_000)


def _time(median: Median) -> str:
    return f"{_duration(median.seconds)} ({_duration(median.fastest)} to {_duration(median.slowest)})"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f} ms"
