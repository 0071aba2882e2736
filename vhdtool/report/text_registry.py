r"""``reg query`` for people, laid out as REG.EXE does: the key, then four blanks, name, type and data."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.report.blocks import printable
from vhdtool.report.document import RegistryKey, RegistryValue
from vhdtool.report.document_change import RegistryData


def registry_lines(key: RegistryKey, *, subkeys: bool = True) -> Iterator[str]:
    """Show one key; ``subkeys`` adds the paths of the keys below, as REG.EXE does when it does not go into them."""
    yield ""
    yield printable(key.path)
    for value in key.values:
        yield f"    {printable(value.name) or '(Default)'}    {value.type}    {shown_data(value)}"
    if subkeys and key.subkeys:
        yield ""
        above = key.path.rstrip("\\")
        for name in key.subkeys:
            yield printable(f"{above}\\{name}")


def shown_data(value: RegistryValue | RegistryData) -> str:
    r"""Show a value's data: numbers as ``0x1``, lists joined by ``\0``, everything else as it is."""
    if isinstance(value.data, int):
        return f"{value.data:#x}"
    if isinstance(value.data, tuple):
        return "\\0".join(printable(text) for text in value.data)
    return printable(value.data)
