"""Results of ``vhdtool check`` as the XML of JUnit, which build servers read.

There is no standard; this is what Jenkins' and GitLab's readers have in common: a suite for each image, a case for each
result, with ``failure`` where it counts, ``skipped`` where it was waived, does not apply or is not bad enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from vhdtool.report.blocks import printable
from vhdtool.report.check import CheckedAll, CheckedImage
from vhdtool.report.document_check import CheckDocument, CheckResultFact


def junit_xml(checked: CheckedAll) -> bytes:
    """Write all images as one document."""
    suites = [list(_suite(image, checked.fail_on)) for image in checked.images]
    counts = [_counts(image) for image in checked.images]
    tests, failures, errors, skipped = (sum(column) for column in zip((0, 0, 0, 0), *counts, strict=True))
    totals = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites {_attributes(name='vhdtool check', **totals)}>",
        *(line for suite in suites for line in suite),
        "</testsuites>",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _counts(image: CheckedImage) -> tuple[int, int, int, int]:
    document = image.document
    if document is None:
        return 1, 0, 1, 0
    counting = document.counts.counting
    passed = sum(one.outcome == "pass" for one in document.results)
    return len(document.results), counting, 0, len(document.results) - counting - passed


def _suite(image: CheckedImage, fail_on: str) -> Iterator[str]:
    tests, failures, errors, skipped = _counts(image)
    names = _attributes(name=image.path, tests=tests, failures=failures, errors=errors, skipped=skipped)
    yield f"  <testsuite {names}>"
    if image.document is not None:
        yield from _cases(image.document, fail_on)
    if image.error is not None:
        error = image.error
        yield f"    <testcase {_attributes(classname='vhdtool', name='inspect')}>"
        text = str(error) + (f"\nhint: {error.hint}" if error.hint else "")
        yield f"      <error {_attributes(type=error.code, message=error.message)}>{_text(text)}</error>"
        yield "    </testcase>"
    yield "  </testsuite>"


def _cases(document: CheckDocument, fail_on: str) -> Iterator[str]:
    for one in document.results:
        case = _attributes(classname=f"vhdtool.{one.code}", name=f"{one.code} {one.subject or one.place}")
        inside = _inside(one, fail_on)
        if inside is None:
            yield f"    <testcase {case}/>"
        else:
            yield f"    <testcase {case}>"
            yield f"      {inside}"
            yield "    </testcase>"


def _inside(one: CheckResultFact, fail_on: str) -> str | None:
    if one.outcome == "pass":
        return None
    if one.counts:
        lines = [one.message, f"place: {one.place}", *([f"fix: {one.fix}"] if one.fix else [])]
        names = _attributes(type=one.severity, message=one.message)
        return f"<failure {names}>{_text(chr(10).join(lines))}</failure>"
    if one.outcome == "not-applicable":
        why = one.message
    elif one.waived is not None:
        why = f"waived until {one.waived.expires}: {one.waived.reason} ({one.message})"
    else:
        why = f"{one.severity}, below what fails ({fail_on}): {one.message}"
    return f"<skipped {_attributes(message=why)}/>"


def _attributes(**values: str | int) -> str:
    return " ".join(f"{name}={quoteattr(printable(str(value)))}" for name, value in values.items())


def _text(text: str) -> str:
    """Text of an element; what XML can't hold, even as a reference, comes out as an escape."""
    return escape("\n".join(printable(line) for line in text.split("\n")))
