from __future__ import annotations

import pytest

from vhdtool.knowledge.windows_names import installed_system, known_system, known_systems, named_system

WRITTEN = {
    "2016": "windows-server-2016",
    "ws2016": "windows-server-2016",
    "Windows Server 2016": "windows-server-2016",
    "Hyper-V Server 2016": "windows-server-2016",
    "win10": "windows-10",
    "Windows 10 Pro 22H2": "windows-10",
    "Windows 10, version 1909": "windows-10",
    "W2K12R2": "windows-server-2012-r2",
    "Windows Server 2012 R2 Standard": "windows-server-2012-r2",
    "2012r2": "windows-server-2012-r2",
    "2012 R2": "windows-server-2012-r2",
    "8": "windows-8",
    "win8.1": "windows-8.1",
    "win81": "windows-8.1",
    "Windows® 7 Enterprise N": "windows-7",
    "windows vista sp2": "windows-vista",
    "Windows XP (SP 2, SP 3)": "windows-xp",
    "Windows Server 2008 R2 with Service Pack 1 (SP1)": "windows-server-2008-r2",
    "SBS 2011": "windows-small-business-server-2011",
    "Windows Small Business Server 2011 Essentials": "windows-small-business-server-2011",
    "Windows Server, version 1709": "windows-server-semi-annual",
    "azure local": "azure-local",
    "Azure Stack HCI": "azure-local",
    "Linux": "linux",
    "Debian 12": "linux",
    "ubuntu": "linux",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_names_as_people_write_them(text: str) -> None:
    system = named_system(text)
    assert system is not None
    assert system.id == WRITTEN[text]


@pytest.mark.parametrize("text", ["", " ", "foo", "Server 10", "Windows 2000", "nt4", "2017", "windows", "8.2", "R2"])
def test_what_is_no_name(text: str) -> None:
    assert named_system(text) is None


@pytest.mark.parametrize("text", ["win10 " + "pro" * 9000, "2016" + "1809" * 9000, "10" + "x64n" * 9000])
def test_a_long_name_takes_no_time(text: str) -> None:
    assert named_system(text) is not None
    assert named_system(text + "?z") is None


def test_every_name_of_the_tables_stands_for_its_system() -> None:
    for system in known_systems():
        assert named_system(system.name) is system
        for alias in system.aliases:
            assert named_system(alias) is system


def test_a_choice_of_systems_is_kept() -> None:
    some = (known_system("windows-10"),)
    assert named_system("win10", some) is some[0]
    assert named_system("2016", some) is None
    assert named_system("debian", some) is None


@pytest.mark.parametrize(
    ("windows", "product", "edition", "expected"),
    [
        ((6, 1, 7601), "Windows 7 Enterprise", "Enterprise", "windows-7"),
        ((6, 1, 7601), "Windows Server 2008 R2 Standard", "ServerStandard", "windows-server-2008-r2"),
        ((6, 1, 7601), "Windows Small Business Server 2011 Essentials", None, "windows-small-business-server-2011"),
        ((6, 1, 7601), "Windows Home Server 2011", None, "windows-home-server-2011"),
        ((5, 2, 3790), "Microsoft Windows Server 2003 R2", None, "windows-server-2003-r2"),
        ((5, 2, 3790), "Microsoft Windows Server 2003", None, "windows-server-2003"),
        ((5, 2, 3790), "Microsoft Windows XP", None, "windows-xp"),
        ((6, 3, 9600), None, "ServerStandard", "windows-server-2012-r2"),
        ((6, 3, 9600), None, None, "windows-8.1"),
        ((10, 0, 14393), "Windows Server 2016 Datacenter", "ServerDatacenter", "windows-server-2016"),
        ((10, 0, 17763), "Windows Server 2019 Standard", "ServerStandard", "windows-server-2019"),
        ((10, 0, 18363), "Windows Server Standard", "ServerStandardACor", "windows-server-semi-annual"),
        ((10, 0, 20348), "Windows Server 2022 Standard", "ServerStandard", "windows-server-2022"),
        ((10, 0, 20348), "Azure Stack HCI", "ServerAzureStackHCICor", "azure-local"),
        ((10, 0, 26100), "Windows Server 2025 Standard", "ServerStandard", "windows-server-2025"),
        ((10, 0, 19045), "Windows 10 Pro", "Professional", "windows-10"),
        ((10, 0, 22631), "Windows 11 Pro", "Professional", "windows-11"),
    ],
)
def test_what_an_image_says(windows, product, edition, expected) -> None:
    system = installed_system(windows, product, edition)
    assert system is not None
    assert system.id == expected


def test_what_no_table_has() -> None:
    assert installed_system(None, "Windows 7", None) is None
    assert installed_system((5, 0, 2195), "Microsoft Windows 2000", None) is None
    assert installed_system((11, 0, 1), "Windows 12", None) is None
