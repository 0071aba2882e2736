"""The JSON Schema of every result document, made from the dataclasses themselves."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

import msgspec

from vhdtool.errors import UsageError
from vhdtool.report import (
    document,
    document_advise,
    document_cab,
    document_cab_find,
    document_change,
    document_check,
    document_crosscheck,
    document_diff,
    document_disk,
    document_doctor,
    document_stage,
)

DOCUMENTS: dict[str, type] = {
    "inspect": document.InspectDocument,
    "version": document.VersionDocument,
    "services": document.ServicesDocument,
    "reg-query": document.RegQueryDocument,
    "ls": document.LsDocument,
    "extract": document.ExtractDocument,
    "disk-info": document_disk.DiskInfoDocument,
    "disk-map": document_disk.DiskMapDocument,
    "disk-verify": document_disk.DiskVerifyDocument,
    "disk-convert": document_disk.DiskConvertDocument,
    "disk-create": document_disk.DiskCreateDocument,
    "disk-merge": document_disk.DiskMergeDocument,
    "change": document_change.ChangeDocument,
    "recover": document_change.RecoverDocument,
    "diff": document_diff.DiffDocument,
    "doctor": document_doctor.DoctorDocument,
    "cab-show": document_cab.CabShowDocument,
    "cab-verify": document_cab.CabVerifyDocument,
    "cab-extract": document_cab.CabExtractDocument,
    "cab-find": document_cab_find.CabFindDocument,
    "stage": document_stage.StageDocument,
    "outcome": document_stage.OutcomeDocument,
    "advise": document_advise.AdviseDocument,
    "update-matrix": document_advise.UpdateMatrixDocument,
    "crosscheck": document_crosscheck.CrosscheckDocument,
    "check": document_check.CheckDocument,
    "explain": document_check.ExplainDocument,
    "evidence": document.EvidenceDocument,
}
"""By the name that ``vhdtool schema`` takes: the part of the ``schema`` field between ``vhdtool.`` and ``/``."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_id(kind: type) -> str:
    """Return the ``schema`` field's value of a document type."""
    return str(get_args(get_type_hints(kind)["schema"])[0])


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a document by name.

    A command's schema also admits the error document that takes the result's place when the image failed.
    Raises :class:`UsageError` ``no-such-schema``.
    """
    kind = DOCUMENTS.get(name)
    if kind is None:
        raise UsageError("no-such-schema", f"there is no schema {name!r}", hint="One of: " + ", ".join(DOCUMENTS))
    kinds = [kind] if kind is document.EvidenceDocument else [kind, document.ErrorDocument]
    references, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    if document.ErrorDocument in kinds:
        definitions["ErrorDocument"]["properties"]["schema"] = {"enum": [schema_id(kind)]}
    for definition in definitions.values():
        if "description" in definition:  # Python 3.13 takes the indentation from docstrings, older ones leave it
            definition["description"] = inspect.cleandoc(definition["description"])
    return {
        "$schema": _DIALECT,
        "$id": "urn:" + schema_id(kind).replace(".", ":", 1).replace("/", ":"),
        "title": schema_id(kind),
        "anyOf": list(references),
        "$defs": definitions,
    }
