from __future__ import annotations

import jsonschema
import pytest

from tests.cli.harness import run
from tests.report.conformity import assert_conforms
from vhdtool.errors import DamagedError, UsageError
from vhdtool.report.encode import error_document, to_json
from vhdtool.report.schema import DOCUMENTS, json_schema, schema_id


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schema_is_a_schema_and_what_the_command_prints(name):
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert run("schema", name).json == schema


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "evidence"])
def test_error_document_fits_every_command(name):
    import msgspec  # noqa: PLC0415

    error = error_document(schema_id(DOCUMENTS[name]), "disk.vhdx", DamagedError("code", "message"))
    assert_conforms(msgspec.json.decode(to_json(error)), name)


def test_names_agree_with_what_the_documents_say():
    assert {f"vhdtool.{name}/1" for name in DOCUMENTS} == {schema_id(kind) for kind in DOCUMENTS.values()}


def test_an_unknown_field_is_noticed():
    with pytest.raises(AssertionError):
        assert_conforms({"schema": "vhdtool.ls/1", "image": {"path": "x"}, "volume": 0, "path": "/"}, "ls")


def test_unknown_name():
    with pytest.raises(UsageError):
        json_schema("nonsense")
    result = run("schema", "nonsense")
    assert result.code == 2
    assert "inspect" in result.stderr
