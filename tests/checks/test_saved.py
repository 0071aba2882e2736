from __future__ import annotations

import pytest

from vhdtool.checks import saved
from vhdtool.checks.saved import saved_documents
from vhdtool.errors import InputError


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b'{"a": 1}', 1),
        (b'{"a": 1}\n{"a": 2}\n', 2),
        (b'{\n  "a": 1\n}\n\n{\n  "a": [2]\n}\n', 2),
        (b'\xef\xbb\xbf{"a": 1}{"b": 2}', 2),
        ('{"a": "é\\ud800"}'.encode(), 1),
    ],
)
def test_documents_one_after_the_other(data, count):
    assert len(list(saved_documents(data, "f"))) == count


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not-json"),
        (b" \n", "not-json"),
        (b"vhdxfile", "not-json"),
        (b"\xff\xfe{", "not-json"),
        (b'{"a": NaN}', "not-json"),
        (b'{"a": ' + b"[" * 200_000, "not-json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not-json"),
        (b'{"a": 1', "not-json"),
        (b"[1]", "not-an-inspect-document"),
        (b"7", "not-an-inspect-document"),
    ],
)
def test_what_is_no_document(data, code):
    with pytest.raises(InputError) as caught:
        list(saved_documents(data, "f"))
    assert caught.value.code == code


def test_what_stands_before_the_damage_is_given():
    documents = saved_documents(b'{"a": 1}\n{"b"', "f")
    assert next(documents) == {"a": 1}
    with pytest.raises(InputError):
        next(documents)


def test_a_file_too_large(monkeypatch):
    monkeypatch.setattr(saved, "MAX_SAVED", 10)
    with pytest.raises(InputError) as caught:
        list(saved_documents(b'{"a": 12345678}', "f"))
    assert caught.value.code == "saved-too-large"
