"""Documents of inspect to check: that of the fixtures' guest, brought up to date, and changes of it."""

from __future__ import annotations

import copy
import functools
from datetime import date
from typing import Any

import msgspec

from tests.fixtures import fixture_file
from vhdtool.checks.policy import Policy, read_policy
from vhdtool.checks.run import Judged, run_checks
from vhdtool.image import open_image
from vhdtool.report.inspection import inspect_document
from vhdtool.report.schema import json_schema

TODAY = date(2026, 6, 15)
NEWEST = "6.3.9600.19456"
"""Of Windows 8 to Server 2012 R2: KB4072650 (knowledge/integration_versions.toml, Microsoft's file list)."""


@functools.cache
def _inspected() -> Any:
    with open_image(fixture_file("windows-guest.vhdx")) as image:
        return msgspec.json.decode(msgspec.json.encode(inspect_document(image)))


def good() -> dict[str, Any]:
    """A guest that nothing can be said against."""
    document = copy.deepcopy(_inspected())
    document["image"]["path"] = "images/server.vhdx"
    document["guests"][0]["integration_services"]["version"] = NEWEST
    return document


def guest(document: dict[str, Any]) -> dict[str, Any]:
    return document["guests"][0]


def service(document: dict[str, Any], name: str) -> dict[str, Any]:
    rows = [*guest(document)["services"], *guest(document)["drivers"]]
    return next(row for row in rows if row["name"] == name)


def finding(code: str, severity: str = "medium", message: str = "So it is.") -> dict[str, Any]:
    return {"code": code, "severity": severity, "message": message, "fix": f"Mend {code}."}


def policy(text: str) -> Policy:
    return read_policy(text.encode(), "policy.toml", json_schema("inspect"))


def judged(document: dict[str, Any], text: str = "", today: date = TODAY) -> tuple[Judged, ...]:
    return run_checks(document, policy(text), today).judged


def told(document: dict[str, Any], code: str, text: str = "") -> list[tuple[str, str, str]]:
    """What one check says: outcome, place and subject of each verdict."""
    return [
        (one.verdict.outcome, one.verdict.place, one.verdict.subject)
        for one in judged(document, text)
        if one.check.code == code
    ]


def outcomes(document: dict[str, Any], code: str, text: str = "") -> set[str]:
    return {outcome for outcome, _, _ in told(document, code, text)}
