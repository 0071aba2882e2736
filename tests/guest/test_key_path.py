from __future__ import annotations

import pytest

from vhdtool.errors import NotFoundError, UsageError
from vhdtool.guest.key_path import parse_hive_file_path, parse_key_path


@pytest.mark.parametrize(
    ("text", "hive", "inner", "shown"),
    [
        (
            r"HKLM\Software\Microsoft\Virtual Machine\Auto",
            "SOFTWARE",
            r"Microsoft\Virtual Machine\Auto",
            r"HKEY_LOCAL_MACHINE\Software\Microsoft\Virtual Machine\Auto",
        ),
        (r"hkey_local_machine\system\Select", "SYSTEM", "Select", r"HKEY_LOCAL_MACHINE\system\Select"),
        ("HKLM\\SAM\\", "SAM", "", r"HKEY_LOCAL_MACHINE\SAM"),
        (r"HKLM\SECURITY\Policy", "SECURITY", "Policy", r"HKEY_LOCAL_MACHINE\SECURITY\Policy"),
        (r"HKU\.DEFAULT\Console", "DEFAULT", "Console", r"HKEY_USERS\.DEFAULT\Console"),
        (r"HKLM\SOFTWARE\a/b", "SOFTWARE", "a/b", r"HKEY_LOCAL_MACHINE\SOFTWARE\a/b"),
    ],
)
def test_paths_of_an_image(text, hive, inner, shown):
    path = parse_key_path(text)
    assert (path.hive, path.inner, path.shown) == (hive, inner, shown)


@pytest.mark.parametrize("text", ["", "\\", "HKLM", "Software\\Microsoft", "HKXX\\SYSTEM"])
def test_paths_that_name_no_hive(text):
    with pytest.raises(UsageError) as caught:
        parse_key_path(text)
    assert "HKLM\\SYSTEM" in (caught.value.hint or "")


@pytest.mark.parametrize("text", [r"HKCU\Software", "HKCR", r"HKLM\HARDWARE\x", r"HKU\S-1-5-21-1-2-3-1001", "HKCC"])
def test_keys_that_no_hive_of_the_machine_holds(text):
    with pytest.raises(NotFoundError) as caught:
        parse_key_path(text)
    assert caught.value.exit_code == 1
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "inner", "shown"),
    [
        ("", "", "\\"),
        ("\\", "", "\\"),
        (r"ControlSet001\Services", r"ControlSet001\Services", r"ControlSet001\Services"),
        (r"HKLM\SYSTEM\Select", "Select", r"HKEY_LOCAL_MACHINE\SYSTEM\Select"),
        (r"HKLM\OFFLINE\Select", "Select", r"HKEY_LOCAL_MACHINE\OFFLINE\Select"),
        (r"HKCU\Software\x", r"Software\x", r"HKEY_CURRENT_USER\Software\x"),
    ],
)
def test_paths_of_a_hive_file(text, inner, shown):
    path = parse_hive_file_path(text)
    assert (path.inner, path.shown) == (inner, shown)


def test_current_control_set():
    path = parse_key_path(r"HKLM\SYSTEM\currentcontrolset\Services\vmbus")
    assert path.needs_control_set
    assert path.in_control_set(2) == r"ControlSet002\Services\vmbus"
    assert not parse_key_path(r"HKLM\SOFTWARE\CurrentControlSet").needs_control_set


@pytest.mark.parametrize(
    ("text", "volatile"),
    [
        (r"HKLM\Software\Microsoft\Virtual Machine\Auto", True),
        (r"HKLM\SOFTWARE\MICROSOFT\VIRTUAL MACHINE\AUTO\x", True),
        (r"HKLM\Software\Microsoft\Virtual Machine\Automatic", False),
        (r"HKLM\SYSTEM\Microsoft\Virtual Machine\Auto", False),
    ],
)
def test_volatile_key(text, volatile):
    assert parse_key_path(text).is_volatile is volatile
