"""Runs mutated inputs through the readers and judges every run.

    python -m tests.fuzz.runner --cases 2000               # all targets, a fresh seed
    python -m tests.fuzz.runner --seed 7 --target hive-clean --case 123   # one case again, with its traceback

A case is good when it ends within the time and memory bounds with the original content, with a reported problem, or
with one clear :class:`~vhdtool.errors.VhdtoolError` of exit code 3 or 4; and when the input is the same file after it.
Content that changed without a report is good only where no checksum covers what was damaged.
"""

# ruff: noqa: T201  # a program that prints

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tests.fuzz.case import Bench, make_case, on_alarm, prepare, run_case
from tests.fuzz.figures import Report
from tests.fuzz.pool import campaign, scratch
from tests.fuzz.target import Target
from tests.fuzz.targets import all_targets

MARKS = ("<!-- figures -->", "<!-- end of figures -->")
LEAST_AIMED = 0.8  # of the mutations lie in bytes that the clean run parsed


def again(target: Target, seed: int, case: int, save: Path | None) -> int:
    """Run one case in this process and say all about it."""
    with scratch() as folder:
        prepared = prepare(target, folder / "clean" / target.name)
        made = make_case(prepared, seed, case)
        print(made.describe())
        bench = Bench(folder / "again")
        place = bench.folder_of(prepared)
        if save is not None:
            bench.damage(prepared, made)
            shutil.copytree(place, save)
            bench.restore(prepared, made)
            print(f"the mutated files are in {save}")
        signal.signal(signal.SIGALRM, on_alarm)
        result = run_case(bench, prepared, seed, case)
        print(f"{result.outcome} {result.code} in {result.seconds:.3f} s, {result.memory >> 20} MiB")
        if result.failure is not None:
            print(result.failure)
        return 1 if result.failure is not None else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="how many mutated inputs")
    parser.add_argument("--seed", help="a number; else VHDTOOL_FUZZ_SEED, else a fresh one")
    parser.add_argument("--target", action="append", default=[], help="a target's name or its beginning; repeatable")
    parser.add_argument("--case", type=int, help="run this one case of the one target again")
    parser.add_argument("--save", type=Path, help="with --case: put the mutated files into this new folder")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--report", type=Path, help="write the tables to this file as Markdown")
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--small", action="store_true", help="leave the slow targets out")
    parser.add_argument("--show", default="", help="print what was done in the cases of this outcome, as differs")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    return parser


def chosen(names: Sequence[str], *, small: bool) -> list[Target]:
    """The targets of these names or beginnings of names; an exact name is that target alone."""
    targets = [target for target in all_targets() if not (small and target.slow)]
    exact = [target for target in targets if target.name in names]
    if exact and len(exact) == len(names):
        return exact
    return [target for target in targets if not names or target.name.startswith(tuple(names))]


def tell(report: Report, options: argparse.Namespace) -> None:
    """Print the tables and the failures, and write the files that were asked for."""
    text = "\n\n".join([report.summary(), report.table(), report.kinds(), report.codes()])
    print(text)
    for result in report.results:
        if result.outcome == options.show:
            print(f"{result.target} {result.case}: {result.done}")
    if report.failures:
        print(report.failure_text())
    if options.report is not None:
        options.report.write_text(text + "\n", encoding="utf-8")
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        options.write.write_text(f"{before}{MARKS[0]}\n\n{date.today()}: {text}\n\n{MARKS[1]}{after}", encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(report.figures()), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    text = options.seed or os.environ.get("VHDTOOL_FUZZ_SEED")
    seed = int(text, 0) if text else secrets.randbits(32)
    targets = chosen(options.target, small=options.small)
    if options.list:
        for target in targets:
            print(f"{target.name:24} weight {target.weight}")
        return 0
    if not targets:
        parser.error("no such target")
    if options.case is not None:
        return again(targets[0], seed, options.case, options.save)
    print(f"seed {seed}", flush=True)
    report = campaign(targets, options.cases, seed, jobs=options.jobs, progress=True)
    tell(report, options)
    if report.aimed_share < LEAST_AIMED:
        print("fewer than 80 % of the mutations lie in parsed bytes")
        return 1
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
