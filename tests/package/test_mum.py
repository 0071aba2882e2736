"""Package manifests of .mum files."""

from __future__ import annotations

import pytest

from tests.package.package_texts import driver_update, identity, mum
from vhdtool.errors import UnsupportedError, VhdtoolError
from vhdtool.package.identity import VersionRules
from vhdtool.package.mum import read_package_manifest


def test_all_that_is_told() -> None:
    parents = (
        '<parent buildCompare="EQ" serviceCompare="GE" integrate="separate" disposition="detect">'
        f"{identity('Base', '6.3.9600.16384')}{identity('Other', '6.2.9200.16384', 'x86')}</parent>"
        f'<parent integrate="delegate">{identity("Second", "1.0.0.0")}</parent>'
        '<installerAssembly name="Microsoft-Windows-ServicingStack" version="6.0.0.0" language="neutral"/>'
    )
    updates = (
        driver_update("a.inf", "force")
        + f'<update name="c"><component>{identity("Comp")}</component></update>'
        + f'<update name="p"><package integrate="hidden">{identity("Inner")}</package></update>'
        + '<update name="nothing"/>'
    )
    found = read_package_manifest(
        mum("Test", parents, updates, root='description="Fix for KB1234567" company="C" supportInformation="S"'),
        path="update.mum",
    )
    assert (found.identity.name, found.kb, found.release_type, found.restart) == (
        "Test",
        "KB1234567",
        "Update",
        "required",
    )
    assert (found.description, found.company, found.support, found.psf) == ("Fix for KB1234567", "C", "S", None)
    assert found.installer is not None
    assert (found.installer.name, found.installer.version) == ("Microsoft-Windows-ServicingStack", (6, 0, 0, 0))
    first, second = found.parents
    assert (first.integrate, first.disposition) == ("separate", "detect")
    assert first.rules == VersionRules(build="EQ", service="GE")
    assert [(one.name, one.version_text, one.architecture) for one in first.alternatives] == [
        ("Base", "6.3.9600.16384", "amd64"),
        ("Other", "6.2.9200.16384", "x86"),
    ]
    assert second.rules.is_empty
    assert [(one.kind, one.name, one.identity.name, one.inf, one.ranking) for one in found.updates] == [
        ("driver", "a.inf-update", "a.inf", "a.inf", "force"),
        ("component", "c", "Comp", None, None),
        ("package", "p", "Inner", None, None),
    ]


@pytest.mark.parametrize(
    ("identifier", "root", "kb"),
    [
        ("KB1234567", "", "KB1234567"),
        ("Z-Package", 'description="Update for (KB7654321)"', "KB7654321"),
        ("", 'supportInformation="http://support.microsoft.com/?kbid=2938772"', "KB2938772"),
        ("", 'supportInformation="https://support.microsoft.com/help/5003173"', "KB5003173"),
        ("none", "", None),
    ],
)
def test_the_article(identifier: str, root: str, kb: str | None) -> None:
    data = mum(root=root).replace(b'identifier="KB1234567"', f'identifier="{identifier}"'.encode())
    assert read_package_manifest(data, path="a").kb == kb


def test_a_store_of_patches() -> None:
    assert read_package_manifest(mum(package='psfName="a.psf"'), path="a").psf == "a.psf"
    assert read_package_manifest(mum(updates='<packageExtended psfName="b.psf"/>'), path="a").psf == "b.psf"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<assembly/>", "not-a-package-manifest"),
        (b"<package/>", "not-a-package-manifest"),
        (b"<assembly><package/></assembly>", "not-a-package-manifest"),
        (b"<assembly><package/><assemblyIdentity/></assembly>", "identity-damaged"),
        (mum(parents='<parent><assemblyIdentity name="x"/></parent>'), "identity-damaged"),
        (mum()[:-4], "xml-damaged"),
    ],
)
def test_what_is_no_manifest(data: bytes, code: str) -> None:
    with pytest.raises(VhdtoolError) as caught:
        read_package_manifest(data, path="x.mum")
    assert (caught.value.code, caught.value.path) == (code, "x.mum")
    assert isinstance(caught.value, UnsupportedError) == (code == "not-a-package-manifest")
