from __future__ import annotations

import pytest

from tests.guest.guests import WINDOWS_2012_R2, Keys, guest
from vhdtool.guest.control_set import current_control_set
from vhdtool.guest.pending import read_pending

CBS = r"Microsoft\Windows\CurrentVersion\Component Based Servicing"
UPDATE = r"Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired"
MANAGER = r"ControlSet001\Control\Session Manager"


def locations(system: Keys, software: Keys, files: dict[str, bytes] | None = None) -> list[str]:
    installation = guest({r"ControlSet001": {}, **system}, {**WINDOWS_2012_R2, **software}, files)
    control_set = current_control_set(installation.hive("SYSTEM"))
    return [work.location for work in read_pending(installation, installation.hive("SOFTWARE"), control_set)]


@pytest.mark.parametrize(
    ("system", "software", "files", "expected"),
    [
        ({}, {}, {}, None),
        ({}, {rf"{CBS}\RebootPending": {}}, {}, rf"SOFTWARE\{CBS}\RebootPending"),
        ({}, {rf"{CBS}\PackagesPending\x": {}}, {}, rf"SOFTWARE\{CBS}\PackagesPending"),
        ({}, {rf"{CBS}\SessionsPending": {"Exclusive": 0}}, {}, None),
        ({}, {rf"{CBS}\SessionsPending": {"Exclusive": 3}}, {}, rf"SOFTWARE\{CBS}\SessionsPending"),
        ({}, {rf"{CBS}\SessionsPending\30_1": {}}, {}, rf"SOFTWARE\{CBS}\SessionsPending"),
        ({}, {UPDATE: {}}, {}, rf"SOFTWARE\{UPDATE}"),
        ({MANAGER: {"PendingFileRenameOperations": ()}}, {}, {}, None),
        (
            {MANAGER: {"PendingFileRenameOperations": (r"\??\C:\a", r"!\??\C:\b")}},
            {},
            {},
            r"SYSTEM\ControlSet001\Control\Session Manager\PendingFileRenameOperations",
        ),
        ({}, {}, {"Windows/WinSxS/pending.xml": b""}, "/Windows/WinSxS/pending.xml"),
    ],
)
def test_each_mark_alone(system: Keys, software: Keys, files: dict[str, bytes], expected: str | None) -> None:
    assert locations(system, software, files) == ([] if expected is None else [expected])


def test_the_text_ends_with_the_place() -> None:
    installation = guest({"ControlSet001": {}}, {**WINDOWS_2012_R2, UPDATE: {}})
    (work,) = read_pending(installation, installation.hive("SOFTWARE"), None)
    assert str(work).endswith(rf": SOFTWARE\{UPDATE}")
