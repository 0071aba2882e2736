"""Identities, and which installed version satisfies which listed one."""

from __future__ import annotations

import pytest

from tests.package.package_texts import MICROSOFT
from vhdtool.errors import DamagedError
from vhdtool.package.identity import AssemblyVersion, VersionRules, parse_assembly_version, read_identity
from vhdtool.package.xml_tree import XmlElement

LISTED: AssemblyVersion = (6, 3, 9600, 16384)


def test_the_name_of_the_registry_key() -> None:
    attributes = {"name": "A-Package", "version": "6.3.9600.1", "processorArchitecture": "AMD64"}
    attributes |= {"publicKeyToken": MICROSOFT.upper(), "language": "neutral"}
    one = read_identity(XmlElement("assemblyIdentity", attributes), path="a")
    assert one.cbs_name == f"A-Package~{MICROSOFT}~amd64~~6.3.9600.1"
    german = read_identity(XmlElement("assemblyIdentity", attributes | {"language": "de-DE"}), path="a")
    assert german.cbs_name == f"A-Package~{MICROSOFT}~amd64~de-DE~6.3.9600.1"


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"name": "a"},
        {"version": "1.0.0.0"},
        {"name": "a", "version": "1.0.0"},
        {"name": "a~b", "version": "1.0.0.0"},
        {"name": "a\\b", "version": "1.0.0.0"},
        {"name": "a" * 257, "version": "1.0.0.0"},
        {"name": "a", "version": "1.0.0.65536"},
    ],
)
def test_what_is_no_identity(attributes: dict[str, str]) -> None:
    with pytest.raises(DamagedError) as caught:
        read_identity(XmlElement("assemblyIdentity", attributes), path="a.mum")
    assert (caught.value.code, caught.value.path) == ("identity-damaged", "a.mum")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.3.9600.18398", (6, 3, 9600, 18398)),
        (" 1.2.3.65535 ", (1, 2, 3, 65535)),
        ("38655.38527.65535.65535", (38655, 38527, 65535, 65535)),
        ("1.2.3", None),
        ("1.2.3.4.5", None),
        ("1.2.3.-4", None),
        ("1.2.3.٤", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_versions(text: str, version: AssemblyVersion | None) -> None:
    assert parse_assembly_version(text) == version


@pytest.mark.parametrize(
    ("rules", "installed", "accepted"),
    [
        (VersionRules(), LISTED, True),
        (VersionRules(), (6, 3, 9600, 17000), True),
        (VersionRules(), (6, 3, 9600, 16383), False),
        (VersionRules(), (6, 3, 9601, 0), True),
        (VersionRules(), (6, 2, 9600, 17000), False),
        (VersionRules(), (6, 4, 9600, 17000), False),
        (VersionRules(), (7, 3, 9600, 17000), False),
        (VersionRules(build="EQ"), (6, 3, 9600, 1), True),
        (VersionRules(build="EQ"), (6, 3, 9601, 16384), False),
        (VersionRules(build="GE", revision="GE"), LISTED, True),
        (VersionRules(build="GE", revision="GE"), (6, 3, 9600, 16383), False),
        (VersionRules(build="GE", revision="GE"), (6, 3, 9599, 16384), False),
        (VersionRules(build="GT"), LISTED, False),
        (VersionRules(build="LE"), (6, 3, 9599, 0), True),
        (VersionRules(revision="LT"), (6, 3, 9600, 16383), True),
        (VersionRules(revision="LT"), (6, 3, 1, 16383), False),
        (VersionRules(revision="GE"), (6, 3, 9600, 16385), True),
        (VersionRules(revision="GE"), (6, 3, 9601, 16385), None),
        (VersionRules(revision="GE"), (6, 3, 9601, 16383), False),
        (VersionRules(build="EQ", service="EQ"), LISTED, True),
        (VersionRules(build="EQ", service="GE"), LISTED, True),
        (VersionRules(build="EQ", service="GT"), LISTED, False),
        (VersionRules(build="EQ", service="EQ"), (6, 3, 9600, 17000), None),
        (VersionRules(build="EQ", service="EQ"), (6, 3, 9601, 17000), False),
        (VersionRules(distribution="EQ"), LISTED, True),
        (VersionRules(distribution="EQ"), (6, 3, 9600, 17000), None),
        (VersionRules(build="around"), LISTED, None),
    ],
)
def test_rules(rules: VersionRules, installed: AssemblyVersion, accepted: bool | None) -> None:
    assert rules.accept(installed, LISTED) is accepted


def test_windows_8_1_is_meant_by_6_3_0_0() -> None:
    """A genuine integration services package lists 6.3.0.0, and applies to Windows 8.1."""
    assert VersionRules().accept((6, 3, 9600, 16384), (6, 3, 0, 0)) is True
