"""What is said of one layer of a package's verification."""

from __future__ import annotations

from dataclasses import dataclass

from vhdtool.errors import Problem
from vhdtool.package.signature import INVALID, VALID, WEAK, SignatureVerdict

MISSING, UNKNOWN = "missing", "unknown"
__all__ = ["INVALID", "MISSING", "UNKNOWN", "VALID", "WEAK", "LayerVerdict"]


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
