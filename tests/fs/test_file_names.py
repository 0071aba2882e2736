"""Names that Windows can use ("Naming Files, Paths, and Namespaces")."""

from __future__ import annotations

import pytest

from vhdtool.errors import RefusedError
from vhdtool.fs.file_names import LONGEST_NAME, refuse_name


@pytest.mark.parametrize(
    "name",
    ["a", "a.b.c", ".hidden", "Größe und mehr", "приёмка", "漢字", "😀" * 127, "x" * LONGEST_NAME, "CONSOLE", "COM",
     "COM10", "nul1", "con_", "lpt", "a b", "$MFT", "~1", "\ud800", "AUXx.txt"],
)  # fmt: skip
def test_usable(name: str):
    refuse_name(name, "/" + name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a.", "a ", "x" * (LONGEST_NAME + 1), "😀" * 128, "a\0", "a\nb", "a\x1f", *'"*/:<>?\\|',
     "file:stream", "CON", "con", "Nul.txt", "aux .x", "COM1", "com¹", "LPT9.log", "CONIN$", "prn.a.b"],
)  # fmt: skip
def test_refused(name: str):
    with pytest.raises(RefusedError) as caught:
        refuse_name(name, "/there")
    assert caught.value.code == "name-not-allowed"
    assert caught.value.path == "/there"
