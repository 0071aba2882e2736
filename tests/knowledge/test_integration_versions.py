from __future__ import annotations

import hashlib
from contextlib import closing

import pytest

from tests.data_files import data_file
from vhdtool.disk.device import FileDevice
from vhdtool.knowledge.integration_versions import known_cabinets, newest_version, shipped_versions
from vhdtool.knowledge.windows_names import known_systems
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.package import read_package

CABINETS = "cab/marcinbojko__hvintegrationservices/"


@pytest.mark.parametrize(
    ("version", "host", "kb"),
    [
        ((6, 0, 6001, 18016), "windows-server-2008", "KB950050"),
        ((6, 1, 7600, 20683), "windows-server-2008-r2", "KB981836"),
        ((6, 1, 7601, 17514), "windows-server-2008-r2", None),
        ((6, 2, 9200, 21885), "windows-server-2012", "KB3161609"),
        ((6, 3, 9600, 17415), "windows-server-2012-r2", "KB3000850"),
        ((6, 3, 9600, 18398), "windows-server-2012-r2", "KB3172614"),
        ((6, 3, 9600, 19456), "windows-server-2012-r2", "KB4072650"),
        ((10, 0, 14393, 2007), "windows-server-2016", None),
        ((10, 0, 20348, 1), "windows-server-2022", None),
    ],
)
def test_who_brought_a_version(version, host, kb) -> None:
    (row,) = shipped_versions(version)
    assert row.exact
    assert host in row.hosts
    assert row.kb == kb


def test_a_version_between_those_that_are_listed_has_its_series() -> None:
    (row,) = shipped_versions((6, 3, 9600, 18000))
    assert (row.exact, row.hosts, row.kb) == (False, ("windows-server-2012-r2", "windows-8.1"), None)
    assert shipped_versions((5, 2, 3790, 0)) == ()


@pytest.mark.parametrize(
    ("windows", "by", "package"),
    [
        ((5, 1, 2600), "setup", None),
        ((6, 0, 6002), "cab", "Windows6.x-HyperVIntegrationServices"),
        ((6, 1, 7601), "cab", "Windows6.x-HyperVIntegrationServices"),
        ((6, 2, 9200), "cab", "Windows6.2-HyperVIntegrationServices"),
        ((6, 3, 9600), "cab", "Windows6.2-HyperVIntegrationServices"),
        ((10, 0, 26100), "windows-update", None),
    ],
)
def test_the_newest_for_a_guest(windows, by, package) -> None:
    newest = newest_version(windows)
    assert newest is not None
    assert (newest.by, newest.package) == (by, package)
    assert (newest.version is None) == (by == "windows-update")


def test_no_windows_no_newest() -> None:
    assert newest_version(None) is None
    assert newest_version((5, 0)) is None


def test_the_newest_by_cabinet_is_among_those_known() -> None:
    for windows in ((6, 1), (6, 3)):
        newest = newest_version(windows)
        assert newest is not None
        of_it = [one for one in known_cabinets() if one.package == newest.package]
        assert {one.architecture for one in of_it if one.version == newest.version} == {"amd64", "x86"}
        assert all(one.version <= (newest.version or ()) for one in of_it)
    assert len({one.sha256 for one in known_cabinets()}) == len(known_cabinets())


def test_hosts_are_systems_that_are_known() -> None:
    names = {system.id for system in known_systems()}
    versions = [(6, 0, 6001, 1), (6, 1, 7600, 1), (6, 2, 9200, 1), (6, 3, 9600, 1), (10, 0, 1, 1), (10, 0, 26100, 1)]
    for version in versions:
        rows = shipped_versions(version)
        assert rows
        assert {host for row in rows for host in row.hosts} <= names


@pytest.mark.data
@pytest.mark.parametrize("name", ["Windows6.2", "Windows6.x"])
def test_a_known_cabinet_is_what_the_table_says(name: str) -> None:
    file = f"{name}-HyperVIntegrationServices-x64.cab"
    path = data_file(CABINETS + file)
    (row,) = [one for one in known_cabinets() if one.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()]
    with closing(FileDevice(str(path))) as device:
        package = read_package(Cabinet.open(device, path=str(path)))
    assert (row.file, row.architecture, row.version, row.kb) == (
        file, package.architecture, package.integration_version, package.kb,
    )  # fmt: skip
