"""XML of packages: what comes out, and that no trick does more than an error."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from vhdtool.errors import DamagedError, RefusedError, VhdtoolError
from vhdtool.package import xml_tree
from vhdtool.package.xml_tree import parse_xml


def fails(data: bytes) -> VhdtoolError:
    with pytest.raises(VhdtoolError) as caught:
        parse_xml(data, path="a.mum")
    assert caught.value.path == "a.mum"
    return caught.value


def test_names_without_namespaces() -> None:
    root = parse_xml(
        b'\xef\xbb\xbf<?xml version="1.0"?><a xmlns="urn:x" xmlns:y="urn:y" k="1" y:l="2">'
        b"<y:b> one </y:b><!-- two --><b>three<c/>four</b></a>",
        path="a.mum",
    )
    assert (root.name, root.get("k"), root.get("l"), root.get("m")) == ("a", "1", "2", None)
    assert [one.text for one in root.all("b")] == [" one ", "threefour"]
    assert root.first("c") is None
    assert [one.name for one in root.below("b", "c")] == ["c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_encodings(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><a k="Ä"/>'
    assert parse_xml(text.encode(encoding), path="a.mum").get("k") == "Ä"


@pytest.mark.parametrize(
    "declared",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b'<!DOCTYPE a [<!ENTITY a "1"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE a SYSTEM "http://localhost:1/a.dtd">',
        b'<!DOCTYPE a PUBLIC "x" "http://localhost:1/a.dtd">',
        b"<!DOCTYPE a>",
        b'<!DOCTYPE a [<!ENTITY % b SYSTEM "http://localhost:1/">%b;]>',
    ],
)
def test_declarations_are_refused(declared: bytes) -> None:
    error = fails(b'<?xml version="1.0"?>' + declared + b"<a>&b;</a>")
    assert isinstance(error, RefusedError)
    assert error.code == "xml-forbidden"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<a>",
        b"<a></b>",
        b"<a/><a/>",
        b"\x00\x01",
        b"<a>&b;</a>",
        b"<a>\xff</a>",
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b'<?xml version="1.0" encoding="shift_jis"?><a/>',
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b"DCM\x01PA30",
    ],
)
def test_what_is_no_xml(data: bytes) -> None:
    error = fails(data)
    assert isinstance(error, DamagedError)
    assert error.code == "xml-damaged"


def test_limits(monkeypatch) -> None:
    monkeypatch.setattr(xml_tree, "MAX_ELEMENTS", 1000)
    assert parse_xml(b"<a>" * 64 + b"</a>" * 64, path="a.mum").name == "a"
    parse_xml(b"<a>" + b"<b/>" * 999 + b"</a>", path="a.mum")
    for data in (
        b"<a>" * 65 + b"</a>" * 65,
        b"<a>" * 1_000_000,
        b"<a>" + b"<b/>" * 1000 + b"</a>",
        b"<a>" + b"x\n" * xml_tree.MAX_TEXT + b"</a>",
        b"<a>" + b" " * xml_tree.MAX_XML + b"</a>",
        b'<a b="' + b"x" * (2 << 20) + b'"/>',
        b"<a " + b" ".join(b'a%d=""' % number for number in range(xml_tree.MAX_ATTRIBUTES + 1)) + b"/>",
        b"<a " + b" ".join(b'a%d=""' % number for number in range(300_000)) + b"/>",
        b"<a><!--" + b"x" * (2 << 20) + b"--></a>",
    ):
        assert fails(data).code == "xml-too-large"


def test_text_in_many_pieces() -> None:
    started = time.perf_counter()
    assert parse_xml(b"<a>" + b"x<!---->y<b/>" * 150_000 + b"</a>", path="a.mum").text == "xy" * 150_000
    assert time.perf_counter() - started < 20


def test_a_tag_costs_no_more_than_its_limit() -> None:
    data = b"<a " + b" ".join(b'a%d="1"' % number for number in range(1_000_000)) + b"/>"
    tracemalloc.start()
    fails(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_costs_are_bounded() -> None:
    started = time.perf_counter()
    tracemalloc.start()
    fails(b"<a>" + b"<b c='d'>e</b>" * 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert time.perf_counter() - started < 30
