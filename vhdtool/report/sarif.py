"""Results of ``vhdtool check`` as SARIF 2.1.0, which code scanning services read.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0 plus Errata 01; the sections are named.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

import msgspec

import vhdtool
from vhdtool.checks.model import Check
from vhdtool.errors import VhdtoolError
from vhdtool.guest.model import Severity
from vhdtool.report.blocks import printable
from vhdtool.report.check import CheckedAll, CheckedImage
from vhdtool.report.document_check import CheckDocument, CheckResultFact

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Mapping[Severity, str] = {"high": "error", "medium": "warning", "low": "note", "info": "note"}
FINGERPRINT = "vhdtool/v1"
_GUEST = re.compile(r"guests\[\d+\]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def sarif_log(checked: CheckedAll) -> bytes:
    """Write one run over all images. What passed is not among the results: readers show each as a fault."""
    run = _run(checked)
    log = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2) + b"\n"


def _run(checked: CheckedAll) -> dict[str, Any]:
    rules = {check.code: at for at, check in enumerate(checked.checks)}
    results: list[dict[str, Any]] = []
    for index, image in enumerate(checked.images):
        if image.document is not None:
            results += (
                _result(one, image.document, index, rules)
                for one in image.document.results
                if one.outcome == "fail"
            )  # fmt: skip
    _number_alike(results)
    return {
        "tool": {"driver": _driver(checked)},
        "invocations": [_invocation(checked)],  # 3.20
        "artifacts": [{"location": _location(image, index), "roles": ["analysisTarget"]} for index, image in
                      enumerate(checked.images)],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }  # fmt: skip


def _driver(checked: CheckedAll) -> dict[str, Any]:
    return {
        "name": "vhdtool",
        "version": vhdtool.__version__,
        "semanticVersion": vhdtool.__version__,
        "rules": [_rule(check) for check in checked.checks],
    }


def _rule(check: Check) -> dict[str, Any]:
    """3.49; the severity of ours stands beside the level, which knows only three."""
    rule: dict[str, Any] = {
        "id": check.code,
        "name": "".join(part.capitalize() for part in check.code.split("-")),
        "shortDescription": {"text": printable(check.what)},
        "fullDescription": {"text": printable(check.why or check.what)},
        "defaultConfiguration": {"level": LEVELS[check.severity]},
        "properties": {"severity": check.severity, "tags": ["policy" if check.own else "baseline"]},
    }
    if check.fix:
        rule["help"] = {"text": printable(check.fix)}
    return rule


def _result(one: CheckResultFact, document: CheckDocument, index: int, rules: Mapping[str, int]) -> dict[str, Any]:
    """3.27."""
    told = one.message if one.fix is None else f"{one.message} To mend it: {one.fix}"
    result: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": rules[one.code],
        "kind": "fail",
        "level": LEVELS[one.severity],
        "message": {"text": printable(told)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": _uri(document.image.path, document.image.path_b64, index)},
                "logicalLocations": [{"fullyQualifiedName": one.place, "kind": "member"}],
            }
        ],
        "partialFingerprints": {FINGERPRINT: _fingerprint(one, document.image.path)},
        "properties": {"severity": one.severity, "counts": one.counts},
    }
    if one.waived is not None:
        why = f"{one.waived.reason} (until {one.waived.expires})"
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": printable(why)}]
    return result


def _fingerprint(one: CheckResultFact, path: str) -> str:
    """The same failure of the same image has the same, wherever the image lies and whatever comes beside it."""
    name = PureWindowsPath(path).name if _DRIVE.match(path) else PurePosixPath(path).name
    guest = _GUEST.match(one.place)  # several guests have services of one name
    parts = (name, one.code, guest[0] if guest else "", one.subject or one.place)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _number_alike(results: list[dict[str, Any]]) -> None:
    """Tell apart what else would have one fingerprint: several sources that could not be read."""
    seen: dict[tuple[int, str], int] = {}
    for result in results:
        fingerprints = result["partialFingerprints"]
        index = result["locations"][0]["physicalLocation"]["artifactLocation"]["index"]
        key = (index, fingerprints[FINGERPRINT])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            fingerprints[FINGERPRINT] += f":{seen[key]}"


def _invocation(checked: CheckedAll) -> dict[str, Any]:
    failed = [image for image in checked.images if image.error is not None]
    invocation: dict[str, Any] = {"executionSuccessful": not failed}
    if failed:
        invocation["toolExecutionNotifications"] = [
            _notification(image, image.error, index)
            for index, image in enumerate(checked.images)
            if image.error is not None
        ]
    told = list(_expired(checked))
    if told:
        invocation["toolConfigurationNotifications"] = told
    return invocation


def _notification(image: CheckedImage, error: VhdtoolError, index: int) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": printable(str(error) + (f" {error.hint}" if error.hint else ""))},
        "descriptor": {"id": error.code},
        "locations": [{"physicalLocation": {"artifactLocation": _location(image, index)}}],
    }


def _expired(checked: CheckedAll) -> Iterator[dict[str, Any]]:
    waivers = {
        waiver: None
        for image in checked.images
        if image.document is not None
        for waiver in ((one.code, one.expires, one.reason) for one in image.document.policy.waivers if one.expired)
    }
    for code, expires, reason in waivers:
        text = f"The waiver of {code} expired on {expires} and does not count: {reason}"
        yield {"level": "warning", "message": {"text": printable(text)}, "associatedRule": {"id": code}}


def _location(image: CheckedImage, index: int) -> dict[str, Any]:
    return _uri(image.path, None if image.document is None else image.document.image.path_b64, index)


def _uri(path: str, raw: object, index: int) -> dict[str, Any]:
    """3.4: a file's name as a URI, its bytes as they are on the host; a name that is a URI already stays one."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        uri = quote(path, safe="/:?#[]@!$&'()*+,;=%~-._")
    elif _DRIVE.match(path):
        uri = f"file:///{quote(path.replace(chr(92), '/'), safe='/:')}"
    else:
        name = base64.b64decode(raw) if isinstance(raw, str) else os.fsencode(PurePath(path).as_posix())
        uri = quote(name)
        if uri.startswith("//"):
            uri = f"file:{uri}"
        elif uri.startswith("/"):
            uri = f"file://{uri}"
    return {"uri": uri, "index": index}
