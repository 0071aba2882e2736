"""The document of ``vhdtool check``: from an opened image, or from what inspect wrote before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from vhdtool.checks.model import Check
from vhdtool.checks.node import Node
from vhdtool.checks.policy import MAX_POLICY, FailOn, Policy, read_policy
from vhdtool.checks.run import Judged, Run, run_checks
from vhdtool.checks.saved import MAX_SAVED, saved_documents
from vhdtool.errors import InputError, VhdtoolError
from vhdtool.image import Image
from vhdtool.report.document import ImageName
from vhdtool.report.document_check import (
    AppliedWaiverFact,
    CheckCountsFact,
    CheckDocument,
    CheckResultFact,
    PolicyFact,
    PolicyWaiverFact,
)
from vhdtool.report.encode import image_name
from vhdtool.report.inspection import inspect_document
from vhdtool.report.schema import json_schema


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What became of one image: its document, or the error it failed with. SARIF and JUnit tell of all at once."""

    path: str
    document: CheckDocument | None
    error: VhdtoolError | None = None


@dataclass(frozen=True, slots=True)
class CheckedAll:
    """All images of a call, and the checks that were made."""

    images: tuple[CheckedImage, ...]
    checks: tuple[Check, ...]
    fail_on: FailOn


def load_policy(path: str) -> Policy:
    """Read a policy, its paths held to what inspect writes.

    Raises :class:`InputError` ``cannot-open`` and what :func:`vhdtool.checks.policy.read_policy` raises.
    """
    return read_policy(_read(path, MAX_POLICY), path, json_schema("inspect"))


def _read(path: str, most: int) -> bytes:
    """Read a file as far as one byte past what is allowed, so that the reader sees that it is too much."""
    try:
        with Path(path).open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise InputError(
            "cannot-open",
            f"can't read the file: {error.strerror}",
            path=path,
            hint="Check the name and that this user may read it.",
        ) from error


def inspected(image: Image, policy: Policy) -> Mapping[str, Any]:
    """Inspect an image; the document as plain values."""
    document = inspect_document(image, all_services=policy.all_services)
    plain: Mapping[str, Any] = msgspec.to_builtins(document)
    return plain


def saved_file(path: str) -> Iterator[Mapping[str, Any]]:
    """Read the documents of a file. Raises what :func:`vhdtool.checks.saved.saved_documents` raises."""
    yield from saved_documents(_read(path, MAX_SAVED), path)


def saved_stream(data: bytes) -> Iterator[Mapping[str, Any]]:
    """Read the documents that came by standard input."""
    yield from saved_documents(data, "-")


def saved_name(document: Mapping[str, Any], path: str) -> str:
    """Tell which image a saved document is about; ``path`` of its file where it does not say."""
    image = document.get("image")
    name = image.get("path") if isinstance(image, Mapping) else None
    return name if isinstance(name, str) and name else path


def raise_saved_error(document: Mapping[str, Any], path: str) -> None:
    """Raise the error that a saved document holds in place of its facts: :class:`InputError` with its own code."""
    fact = document.get("error")
    if fact is None:
        return
    error = Node(fact, "error")
    raise InputError(
        error.text("code") or "internal-fault",
        error.text("message") or "the image could not be inspected",
        path=path,
        hint=error.text("hint"),
    )


def check_document(document: Mapping[str, Any], policy: Policy, fail_on: FailOn, today: date) -> CheckDocument:
    """Run a policy over a document of inspect. Raises what :func:`vhdtool.checks.run.run_checks` raises."""
    run = run_checks(document, policy, today)
    counting = sum(one.counts(fail_on) for one in run.judged)
    outcomes = [one.verdict.outcome for one in run.judged]
    waived = sum(one.waiver is not None for one in run.judged)
    return CheckDocument(
        schema="vhdtool.check/1",
        image=_name(document, run.image),
        policy=PolicyFact(
            file=policy.file,
            name=policy.name,
            fail_on=fail_on,
            checks=tuple(chosen.check.code for chosen in policy.checks),
            waivers=tuple(_waivers(run, today)),
        ),
        passed=not counting,
        counts=CheckCountsFact(
            counting=counting,
            failed=outcomes.count("fail") - waived,
            waived=waived,
            passed=outcomes.count("pass"),
            not_applicable=outcomes.count("not-applicable"),
        ),
        results=tuple(_result(one, fail_on) for one in run.judged),
    )


def _name(document: Mapping[str, Any], path: str) -> ImageName:
    raw = document["image"].get("path_b64")
    return ImageName(path, raw) if isinstance(raw, str) else image_name(path)


def _waivers(run: Run, today: date) -> Iterator[PolicyWaiverFact]:
    for waiver in run.policy.waivers:
        yield PolicyWaiverFact(
            code=waiver.code,
            subject=waiver.subject,
            images=waiver.images,
            reason=waiver.reason,
            expires=waiver.expires.isoformat(),
            expired=waiver.has_expired(today),
            used=sum(one.waiver is waiver for one in run.judged),
        )


def _result(one: Judged, fail_on: FailOn) -> CheckResultFact:
    waiver = one.waiver
    fix = (one.verdict.fix or one.check.fix or None) if one.verdict.outcome == "fail" else None
    return CheckResultFact(
        code=one.check.code,
        severity=one.check.severity,
        outcome=one.verdict.outcome,
        counts=one.counts(fail_on),
        place=one.verdict.place,
        subject=one.verdict.subject,
        message=_message(one),
        fix=fix,
        waived=None if waiver is None else AppliedWaiverFact(waiver.reason, waiver.expires.isoformat()),
    )


def _message(one: Judged) -> str:
    """What a rule of the policy found is only a place and a value: what it wants stands before."""
    if one.check.own and one.verdict.outcome == "fail":
        return f"{one.check.what.rstrip()} {one.verdict.message}"
    return one.verdict.message
