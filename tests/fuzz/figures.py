"""The results of a run and the tables made of them, as docs/reliability.md has them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Result:
    target: str
    case: int
    outcome: str  # identical, reported, payload, differs, error-3, error-4, or the failure's kind
    code: str
    seconds: float
    memory: int
    count: int
    aimed: int
    covered: bool  # a checksum covers what was damaged
    renewed: bool  # and was made right again
    kinds: tuple[str, ...]
    done: str
    failure: str | None = None


@dataclass
class Report:
    """The tables of a run."""

    seed: int
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    base_memory: int = 0  # of a worker before its first case

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.failure is not None]

    @property
    def mutations(self) -> int:
        return sum(result.count for result in self.results)

    @property
    def aimed_share(self) -> float:
        return sum(result.aimed for result in self.results) / max(1, self.mutations)

    @property
    def renewed_share(self) -> float:
        """Of the cases whose damage lies under a checksum: in how many the checksum was made right again."""
        return sum(result.renewed for result in self.results) / max(1, sum(result.covered for result in self.results))

    def summary(self) -> str:
        """Seed, counts, duration and shares in one sentence."""
        rate = len(self.results) / max(self.seconds, 0.001)
        return (
            f"seed {self.seed}, {len(self.results)} cases with {self.mutations} mutations in {self.seconds:.0f} s "
            f"({rate:.0f} a second), {self.aimed_share:.1%} of the mutations in parsed bytes, checksums renewed in "
            f"{self.renewed_share:.1%} of the cases that broke one, {len(self.failures)} failed; "
            f"a worker process holds {self.base_memory >> 20} MiB before its first case"
        )

    def figures(self) -> dict[str, float]:
        """The figures of :meth:`summary`."""
        return {
            "seed": self.seed,
            "cases": len(self.results),
            "mutations": self.mutations,
            "seconds": self.seconds,
            "aimed": self.aimed_share,
            "renewed": self.renewed_share,
            "failures": len(self.failures),
        }

    def table(self) -> str:
        """One row a target, as a Markdown table."""
        judged = "identical | reported | exit 3 | exit 4 | payload | differs | failed"
        head = f"| target | cases | in parsed bytes | {judged} | slowest | peak memory |"
        lines = [head, "|---|" + "---:|" * 11]
        names = sorted({result.target for result in self.results})
        for name in [*names, "all"]:
            rows = [result for result in self.results if name in ("all", result.target)]
            seen = Counter("failed" if row.failure is not None else row.outcome for row in rows)
            share = sum(row.aimed for row in rows) / max(1, sum(row.count for row in rows))
            slowest = max((row.seconds for row in rows), default=0.0)
            peak = max((row.memory for row in rows), default=0) >> 20
            kinds = ["identical", "reported", "error-3", "error-4", "payload", "differs", "failed"]
            counts = " | ".join(str(seen[kind]) for kind in kinds)
            lines.append(f"| {name} | {len(rows)} | {share:.1%} | {counts} | {slowest:.2f} s | {peak} MiB |")
        return "\n".join(lines)

    def kinds(self) -> str:
        """How often each kind of damage was done, as a Markdown table."""
        count = Counter(kind for result in self.results for kind in result.kinds)
        return "\n".join(
            [
                "| damage | mutations |",
                "|---|---:|",
                *(f"| {kind} | {number} |" for kind, number in count.most_common()),
            ]
        )

    def codes(self) -> str:
        count = Counter(result.code for result in self.results if result.code)
        return "\n".join(
            [
                "| error code | cases |",
                "|---|---:|",
                *(f"| `{code}` | {number} |" for code, number in count.most_common()),
            ]
        )

    def failure_text(self, limit: int = 12) -> str:
        """Each kind of failure once, with the command that shows it again."""
        groups: dict[str, list[Result]] = {}
        for result in self.failures:
            groups.setdefault(f"{result.outcome} {_signature(result.failure or '')}", []).append(result)
        parts = []
        for name, found in sorted(groups.items(), key=lambda item: -len(item[1]))[:limit]:
            first = found[0]
            parts.append(
                f"--- {len(found)} x {name}\n{first.failure}\n"
                f"again: python -m tests.fuzz.runner --seed {self.seed} --target {first.target} --case {first.case}"
            )
        return "\n".join(parts)


def _signature(failure: str) -> str:
    """The exception and the innermost line of the package in a traceback."""
    frames = re.findall(r'File ".*?/(vhdtool/[^"]+)", line (\d+)', failure)
    last = failure.strip().splitlines()[-1][:80] if failure.strip() else ""
    return f"{last} at {frames[-1][0]}:{frames[-1][1]}" if frames else last
