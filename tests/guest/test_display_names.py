from __future__ import annotations

import pytest

from tests.guest.guests import guest
from tests.package.build_pe import build_pe
from vhdtool.guest.control_set import current_control_set
from vhdtool.guest.display_names import DisplayName, DisplayNames
from vhdtool.guest.source import Troubles, WindowsInstallation

KOREAN, ENGLISH, GERMAN = 0x412, 0x409, 0x407
REFERENCE = r"@%systemroot%\system32\icsvc.dll,-201"
LIBRARY = "Windows/System32/icsvc.dll"
KOREAN_FILE, ENGLISH_FILE = "Windows/System32/ko-KR/icsvc.dll.mui", "Windows/System32/en-US/icsvc.dll.mui"


def names(files: dict[str, bytes], language: str = "0412", others: tuple[str, ...] = ()) -> DisplayNames:
    system = {
        r"ControlSet001\Control\Nls\Language": {"InstallLanguage": language},
        **{rf"ControlSet001\Control\MUI\UILanguages\{name}": {} for name in others},
    }
    installation = guest(system, files=files)
    return resolver(installation, Troubles())


def resolver(installation: WindowsInstallation, troubles: Troubles) -> DisplayNames:
    control_set = current_control_set(installation.hive("SYSTEM"))
    assert control_set is not None
    return DisplayNames(installation, control_set, troubles)


def strings(text: str, language: int) -> bytes:
    return build_pe(strings={language: {201: text}})


@pytest.mark.parametrize(
    ("files", "language", "expected"),
    [
        ({KOREAN_FILE: strings("데이터 교환", KOREAN), ENGLISH_FILE: strings("Data", ENGLISH)}, "0412", "데이터 교환"),
        ({KOREAN_FILE: strings("데이터 교환", KOREAN), ENGLISH_FILE: strings("Data", ENGLISH)}, "0409", "Data"),
        ({ENGLISH_FILE: strings("Data", ENGLISH)}, "0412", "Data"),
        ({LIBRARY: strings("Data", ENGLISH)}, "0412", "Data"),
        ({LIBRARY: build_pe(strings={KOREAN: {201: "데이터"}, ENGLISH: {201: "Data"}})}, "0412", "데이터"),
        ({LIBRARY: strings("Daten", GERMAN)}, "zz", "Daten"),
    ],
)
def test_the_name_is_looked_up_in_the_guests_language_first(
    files: dict[str, bytes], language: str, expected: str
) -> None:
    assert names(files, language).resolve(REFERENCE, table="ours") == DisplayName(expected, "image")


def test_a_language_that_is_only_installed_serves_where_neither_other_does() -> None:
    files = {"Windows/System32/de-DE/icsvc.dll.mui": strings("Daten", GERMAN)}
    assert names(files, others=("de-DE",)).resolve(REFERENCE) == DisplayName("Daten", "image")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Print Spooler", DisplayName("Print Spooler", "registry")),
        ("@wvmbus.inf,%vmbus.SVCDESC%;Virtual Machine Bus", DisplayName("Virtual Machine Bus", "registry")),
        ("@icsvc.dll,-201", DisplayName("Data", "image")),
        (r"@C:\Windows\system32\icsvc.dll,-201", DisplayName("Data", "image")),
        (r"@%SystemRoot%\System32\icsvc.dll,-201;comment", DisplayName("Data", "image")),
        (r"@%SystemRoot%\System32\icsvc.dll,-202", DisplayName("ours", "table")),
        (r"@%ProgramFiles%\x\y.dll,-201", DisplayName("ours", "table")),
        (r"@%SystemRoot%\..\icsvc.dll,-201", DisplayName("ours", "table")),
        ("@", DisplayName("ours", "table")),
        (None, DisplayName("ours", "table")),
    ],
)
def test_forms_of_references(written: str | None, expected: DisplayName) -> None:
    found = names({LIBRARY: strings("Data", ENGLISH)}).resolve(written, table="ours")
    assert found == expected


def test_nothing_known_is_none_and_files_stay_closed_on_request() -> None:
    resolve = names({LIBRARY: strings("Data", ENGLISH)}).resolve
    assert resolve(None) is None
    assert resolve(REFERENCE, open_files=False) is None


def test_a_string_that_a_file_lacks_does_not_hide_its_others() -> None:
    found = names({LIBRARY: strings("Data", ENGLISH)})
    assert found.resolve("@icsvc.dll,-901", table="ours") == DisplayName("ours", "table")
    assert found.resolve("@icsvc.dll,-201", table="ours") == DisplayName("Data", "image")


def test_a_broken_file_is_noted_once_and_the_table_answers() -> None:
    troubles = Troubles()
    installation = guest({"ControlSet001": {}}, files={LIBRARY: strings("Data", ENGLISH)[:0x410]})
    found = resolver(installation, troubles)
    for _ in range(3):
        assert found.resolve(REFERENCE, table="ours") == DisplayName("ours", "table")
    assert [trouble.error.code for trouble in troubles.found] == ["pe-damaged"]
