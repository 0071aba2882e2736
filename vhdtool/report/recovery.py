"""The document of ``vhdtool recover``."""

from __future__ import annotations

from collections.abc import Sequence

from vhdtool.disk.commit import Recovered
from vhdtool.report.document_change import RecoverDocument, RecoveredFact
from vhdtool.report.encode import image_name


def recover_document(image: str, steps: Sequence[Recovered], notes: Sequence[str]) -> RecoverDocument:
    """Tell the steps that were taken."""
    facts = tuple(RecoveredFact(step.action, step.bytes_written, step.notes) for step in steps)
    return RecoverDocument("vhdtool.recover/1", image_name(image), bool(facts), facts, tuple(notes) if facts else ())
