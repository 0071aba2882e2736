"""What is said of one layer of a package's verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vhdtool.errors import Problem
from vhdtool.package.signature import INVALID, VALID, WEAK, SignatureVerdict

MISSING, UNKNOWN = "missing", "unknown"
_WORSE = (VALID, WEAK, UNKNOWN, MISSING, INVALID)
__all__ = ["INVALID", "MISSING", "UNKNOWN", "VALID", "WEAK", "LayerVerdict", "combined_layer"]


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """One layer.

    ``name``: digest, signature, catalog, payload. ``state``: valid; weak (it holds, by SHA-1); invalid; missing (the
    cabinet has no such layer); unknown (nothing is wrong, and not all could be checked). ``problems`` say what is
    wrong, each with the file it is in; ``notes`` what is only odd. ``checked`` counts the signatures, or the files,
    that were looked at.
    """

    name: str
    state: str
    message: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    signatures: tuple[SignatureVerdict, ...] = ()
    checked: int = 0

    @property
    def holds(self) -> bool:
        """Whether the layer may be relied on."""
        return self.state in {VALID, WEAK}


def combined_layer(verdicts: Sequence[LayerVerdict]) -> LayerVerdict:
    """Return what holds of several files together, in the same layer: what is said of the worst, and all problems."""
    return replace(
        max(verdicts, key=lambda one: _WORSE.index(one.state)),
        problems=tuple(problem for one in verdicts for problem in one.problems),
        notes=tuple(note for one in verdicts for note in one.notes),
        signatures=tuple(signature for one in verdicts for signature in one.signatures),
        checked=sum(one.checked for one in verdicts),
    )
