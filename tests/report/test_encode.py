from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass

import msgspec
import pytest

from vhdtool.errors import DamagedError
from vhdtool.report.encode import encoded, error_document, escaped, image_name, to_json


@dataclass(frozen=True)
class Document:
    name: str
    names: tuple[str, ...]


def test_one_line_in_declared_order():
    assert to_json(Document("b", ("é",))) == '{"name":"b","names":["é"]}\n'.encode()


def test_pretty_is_the_same_document():
    document = Document("b", ("a",))
    assert json.loads(to_json(document, pretty=True)) == json.loads(to_json(document))
    assert to_json(document, pretty=True).count(b"\n") > 3


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\udcff.vhdx"])
def test_names_that_are_no_text_become_escapes(name):
    decoded = json.loads(to_json(Document("x", (name, "fine"))))
    assert decoded["names"] == [escaped(name), "fine"]
    escaped(name).encode()


@pytest.mark.parametrize("name", ["plain", "\ud800"])
def test_a_part_encoded_ahead_makes_the_same_document(name):
    @dataclass(frozen=True)
    class Outer:
        title: str
        part: Document

    part = Document(name, (name,))
    assert to_json(Outer(name, encoded(part))) == to_json(Outer(name, part))


def test_image_with_a_name_of_other_bytes_keeps_them():
    name = os.fsdecode(b"disk-\xff.vhdx")
    document = json.loads(to_json(image_name(name)))
    assert document["path"] == "disk-\\udcff.vhdx"
    assert base64.b64decode(document["path_b64"]) == b"disk-\xff.vhdx"


def test_image_with_a_plain_name_has_no_second_one():
    assert image_name("disk.vhdx").path_b64 is msgspec.UNSET
    assert json.loads(to_json(image_name("disk.vhdx"))) == {"path": "disk.vhdx"}


def test_error_document():
    error = DamagedError("bat-range", "a block lies outside", offset=77, expected="a", found="b", hint="copy it again")
    assert json.loads(to_json(error_document("vhdtool.inspect/1", "d.vhdx", error))) == {
        "schema": "vhdtool.inspect/1",
        "image": {"path": "d.vhdx"},
        "error": {
            "code": "bat-range",
            "message": "a block lies outside, expected a, found b",
            "hint": "copy it again",
            "offset": 77,
        },
    }
