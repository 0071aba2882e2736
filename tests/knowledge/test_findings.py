"""Every code that the source can tell has an explanation. The codes are collected here from the syntax trees."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import vhdtool
from vhdtool.checks.baseline import BASELINE
from vhdtool.knowledge.findings import code_texts
from vhdtool.report.explain import explain_document

SOURCE = Path(vhdtool.__file__).parent
KINDS = {"Finding": "finding", "Obstacle": "obstacle", "AuditFinding": "disk-finding", "_finding": "disk-finding"}
CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def texts(node: ast.AST) -> Iterator[str]:
    """The codes that an expression can be: one, or one of several by a condition."""
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant) and CODE.fullmatch(str(node.value)):
        yield str(node.value)


def told() -> Iterator[tuple[str, str]]:
    """Every code that a finding, an obstacle or a finding of disk verify is made with, and its kind."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            if name not in KINDS:
                continue
            code = call.args[0]
            sources = [code]
            if isinstance(code, ast.Name):
                sources = [
                    node.value
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Assign) and any(ast.unparse(one) == code.id for one in node.targets)
                ]
            for source in sources:
                yield from ((one, KINDS[name]) for one in texts(source))


def test_every_code_of_a_finding_has_a_text_of_its_own():
    known = {(one.code, one.kind): one for one in code_texts()}
    collected = set(told())
    assert len(collected) > 75, "the rule must have something to hold"
    assert {"daemon-masked", "boot-driver-overridden", "kvp-missing", "vhd-tail-waste"} <= {one for one, _ in collected}
    for key in collected:
        assert key in known, f"{key}: run scripts/docs"
        assert known[key].what, f"{key}: knowledge/findings.toml lacks it"
        assert known[key].why
        assert known[key].fix


def test_every_text_is_of_a_code_that_the_source_has():
    rows = tomllib.loads((SOURCE / "knowledge/findings.toml").read_text(encoding="utf-8"))["text"]
    written = Counter((row["code"], row["kind"]) for row in rows)
    assert set(written) == set(told())
    assert set(written.values()) == {1}
    assert all(len(row["source"]) > 5 for row in rows)


def test_every_error_says_what_why_and_what_to_do():
    for one in explain_document().explanations:
        assert one.what, one.code
        assert one.why, one.code
        assert one.fix, one.code
        assert (one.exit_code is not None) == (one.kind == "error"), one.code


def test_exit_codes_are_those_of_the_classes():
    exits = {one.code: one.exit_code for one in code_texts() if one.kind == "error"}
    assert (exits["not-a-disk"], exits["image-in-use"], exits["policy-key"]) == (3, 4, 2)


def test_checks_have_codes_of_their_own():
    findings = {one.code for one in code_texts() if one.kind == "finding"}
    assert not findings & {check.code for check in BASELINE}
