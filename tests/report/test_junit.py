"""JUnit XML of ``vhdtool check``, read by junitparser and by an XML parser."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from tests.checks.documents import TODAY, finding, good, guest, policy
from tests.tools import cannot_judge
from vhdtool.errors import InputError
from vhdtool.report.check import CheckedAll, CheckedImage, check_document
from vhdtool.report.junit import junit_xml

POLICY = """
fail-on = "medium"
[checks.generalized]
[checks.fast-startup-off]
[[waiver]]
code = "generalized"
reason = "A <test> machine."
expires = 2027-01-01
"""


def bad() -> dict[str, Any]:
    document = good()
    guest(document)["os"].update(pending=['rename "a" & <b>\x00\x1b\ud800\ufffe]]>\n'], fast_startup=True)
    guest(document)["findings"] = [finding("boot-driver-missing", "high")]
    return document


def written() -> bytes:
    chosen = policy(POLICY)
    images = []
    for document in (bad(), good()):
        checked = check_document(document, chosen, chosen.fail_on, TODAY)
        images.append(CheckedImage(checked.image.path, checked))
    error = InputError("not-a-disk", "this is no <disk>\x01", path="x.vhdx", hint="Take another.")
    images.append(CheckedImage("x.vhdx", None, error))
    return junit_xml(CheckedAll(tuple(images), tuple(one.check for one in chosen.checks), chosen.fail_on))


def test_a_reader_of_junit_reads_it(tmp_path):
    try:
        import junitparser  # noqa: PLC0415  # only here, and it may be missing
    except ImportError:
        cannot_judge("junitparser is not installed")
    file = tmp_path / "out.xml"
    file.write_bytes(written())
    suites = list(junitparser.JUnitXml.fromfile(str(file)))
    assert [suite.name for suite in suites] == ["images/server.vhdx", "images/server.vhdx", "x.vhdx"]
    first, _, last = suites
    kinds = {
        case.name: [type(one).__name__ for one in case.result]
        for suite in suites[:1]
        for case in suite
    }  # fmt: skip
    assert kinds["boot-ready boot-driver-missing"] == ["Failure"]
    assert kinds["generalized guests[0].os.install_state"] == ["Skipped"]
    assert kinds["fast-startup-off guests[0].os.fast_startup"] == ["Skipped"]
    assert kinds["hives-clean guests[0].hives"] == []
    (case,) = last
    assert [type(one).__name__ for one in case.result] == ["Error"]
    assert case.result[0].type == "not-a-disk"
    assert first.failures == 2


def test_the_numbers_are_those_of_the_cases():
    root = ET.fromstring(written())  # noqa: S314  # our own words
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in root:
        cases = list(suite)
        counted = {
            "tests": len(cases),
            "failures": sum(case.find("failure") is not None for case in cases),
            "errors": sum(case.find("error") is not None for case in cases),
            "skipped": sum(case.find("skipped") is not None for case in cases),
        }
        assert counted == {name: int(suite.attrib[name]) for name in counted}
        total = {name: total[name] + counted[name] for name in total}
    assert total == {name: int(root.attrib[name]) for name in total}
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in root[0]}) == len(root[0])


def test_what_xml_can_not_hold_comes_out_as_an_escape():
    root = ET.fromstring(written())  # noqa: S314
    (failure,) = [
        one for one in root[0].iter("failure") if "rename" in (one.text or "")
    ]  # fmt: skip
    assert 'rename "a" & <b>\\x00\\x1b\\ud800\\ufffe]]>' in (failure.text or "")
    assert "A <test> machine." in {one.attrib["message"].partition(": ")[2].partition(" (")[0]
                                   for one in root[0].iter("skipped")}  # fmt: skip
