"""The exit codes: each one sorted once, as the decimal that cmd.exe shows."""

from __future__ import annotations

import pytest

from vhdtool.knowledge.dism_exit_codes import exit_codes, explain_exit_code


def test_each_code_stands_once_and_has_a_source():
    values = [code.value for code in exit_codes()]
    assert len(values) == len(set(values))
    assert all(code.source and code.meaning for code in exit_codes())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0, "done"),
        (3010, "restart"),
        (-2146498530, "not-applicable"),  # 0x800f081e as %ERRORLEVEL% shows it
        (0x800F081E, "not-applicable"),
        (-2146498525, "permanent"),  # 0x800f0823
        (1618, "retry"),
        (87, "again-without-english"),
    ],
)
def test_signed_and_unsigned_are_one(code, kind):
    row = explain_exit_code(code)
    assert row is not None
    assert row.kind == kind
    assert row.decimal == (code - 2**32 if code >= 2**31 else code)


def test_an_unknown_code_has_no_row():
    assert explain_exit_code(123456) is None
