"""Holds documents to the published schemas, and to nothing more than these say."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema

from vhdtool.report.schema import json_schema


def assert_conforms(document: Any, name: str) -> None:
    """Fail where ``document`` breaks the schema ``name``, or has a field that the schema does not know."""
    schema = copy.deepcopy(json_schema(name))
    for definition in schema["$defs"].values():
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    errors = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(document)
    ]
    context = [
        f"{'/'.join(map(str, cause.absolute_path))}: {cause.message[:300]}"
        for error in validator.iter_errors(document)
        for cause in error.context or ()
    ]
    assert not errors, "\n".join(errors + context)
