"""Does a package apply: answers read by hand from the manifests, against guests whose keys are written down here."""

from __future__ import annotations

import pytest

from scripts.fixtures.signed_package import Signing, signed_package
from scripts.fixtures.stored_cabinet import stored_cabinet
from tests.data_files import data_file
from tests.guest.guests import CURRENT_VERSION, WINDOWS_7, WINDOWS_11, WINDOWS_2012_R2, Keys, guest
from tests.package.package_texts import MICROSOFT
from tests.staging.packages import INTEGRATION, NEWER, package_files, parents
from vhdtool.bytesource import BytesSource
from vhdtool.disk.device import FileDevice
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.package import Package, read_package
from vhdtool.package.verification import verify_package
from vhdtool.staging.applicability import currency, judge, sha2_ready
from vhdtool.staging.guest_state import GuestState

PACKAGES = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
ENVIRONMENT = r"ControlSet001\Control\Session Manager\Environment"
DRIVERS = r"DriverDatabase\DriverPackages"
INSTALLED, SUPERSEDED, STAGED, PERMANENT = 0x70, 0x50, 0x40, 0x80
GUEST_DRIVERS = "Microsoft-Hyper-V-Guest-Integration-Drivers-Package"
GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.{}-HyperVIntegrationServices-x64.cab"


def key(name: str, version: str, *, architecture: str = "amd64", language: str = "", token: str = MICROSOFT) -> str:
    return rf"{PACKAGES}\{name}~{token}~{architecture}~{language}~{version}"


def state(
    packages: dict[str, int], windows: Keys = WINDOWS_2012_R2, system: Keys | None = None, architecture: str = "AMD64"
) -> GuestState:
    listed: Keys = {one: {"CurrentState": value} for one, value in packages.items()}
    environment: Keys = {ENVIRONMENT: {"PROCESSOR_ARCHITECTURE": architecture}}
    return GuestState(guest({**environment, **(system or {})}, {**windows, **listed}))


def package(parent: str = "", **facts: object) -> Package:
    content = stored_cabinet(package_files(parent=parent, **facts))  # type: ignore[arg-type]
    return read_package(Cabinet.open(BytesSource(content), path="test.cab"))


def genuine(number: str) -> Package:
    path = data_file(GENUINE.format(number))
    return read_package(Cabinet.open(FileDevice(path), path=str(path)))


@pytest.mark.data
@pytest.mark.parametrize(
    ("cab", "packages", "windows", "answer"),
    [
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384"): INSTALLED}, WINDOWS_2012_R2, "yes"),
        ("2", {key(GUEST_DRIVERS, "6.2.9200.16384"): PERMANENT}, WINDOWS_2012_R2, "yes"),
        ("2", {key(GUEST_DRIVERS, "6.2.9200.16383"): INSTALLED}, WINDOWS_2012_R2, "no"),
        ("2", {key("Microsoft-Hyper-V-WinPE-Drivers-Package", "6.3.9600.16384"): INSTALLED}, WINDOWS_2012_R2, "yes"),
        ("2", {key(GUEST_DRIVERS, "6.1.7601.17514"): INSTALLED}, WINDOWS_7, "no"),
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384"): SUPERSEDED}, WINDOWS_2012_R2, "no"),
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384"): STAGED}, WINDOWS_2012_R2, "no"),
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384", architecture="x86"): INSTALLED}, WINDOWS_2012_R2, "no"),
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384", language="de-DE"): INSTALLED}, WINDOWS_2012_R2, "no"),
        ("2", {key(GUEST_DRIVERS, "6.3.9600.16384", token="0" * 16): INSTALLED}, WINDOWS_2012_R2, "no"),
        ("2", {}, WINDOWS_2012_R2, "unknown"),
        ("x", {key("Microsoft-Windows-Foundation-Package", "6.1.7601.17514"): PERMANENT}, WINDOWS_7, "yes"),
        ("x", {key("Microsoft-Windows-ServerCore-Package", "6.0.6002.18005"): INSTALLED}, WINDOWS_7, "yes"),
        ("x", {key("Microsoft-Windows-Foundation-Package", "6.0.6000.16386"): INSTALLED}, WINDOWS_7, "no"),
        ("x", {key("Microsoft-Windows-UltimateEdition", "6.0.6001.18000"): INSTALLED}, WINDOWS_7, "yes"),
        ("x", {key("Microsoft-Windows-Foundation-Package", "6.3.9600.16384"): INSTALLED}, WINDOWS_2012_R2, "no"),
    ],
)  # fmt: skip
def test_genuine_packages_against_the_keys_of_their_parents(cab, packages, windows, answer):
    found = judge(genuine(cab), state(packages, windows))
    assert found.answer == answer, found
    if answer == "yes":
        assert found.key == "SOFTWARE\\" + next(iter(packages))


def test_wrong_architecture_is_told_before_anything_else():
    found = judge(package(parents((GUEST_DRIVERS, "6.3.0.0")), architecture="x86"), state({}))
    assert (found.answer, found.rule) == ("no", "architecture")
    assert "x86" in found.message
    assert "amd64" in found.message


def test_windows_10_has_them_built_in_even_where_a_key_would_match():
    found = judge(
        package(parents((GUEST_DRIVERS, "10.0.0.0"))), state({key(GUEST_DRIVERS, "10.0.1.1"): 0x70}, WINDOWS_11)
    )
    assert (found.answer, found.rule) == ("no", "built-in")
    assert "Windows Update" in (found.fix or "")


def test_a_generic_package_applies_to_windows_11():
    parent = parents(("Microsoft-Windows-Foundation-Package", "10.0.22621.1"), rules='buildCompare="EQ"')
    there = {key("Microsoft-Windows-Foundation-Package", "10.0.22621.1"): INSTALLED}
    assert judge(package(parent, name="Package_for_KB1"), state(there, WINDOWS_11)).answer == "yes"
    other = {key("Microsoft-Windows-Foundation-Package", "10.0.26100.1"): INSTALLED}
    assert judge(package(parent, name="Package_for_KB1"), state(other, WINDOWS_11)).answer == "no"


@pytest.mark.parametrize(
    ("rules", "version", "answer"),
    [
        ('buildCompare="EQ"', "6.3.9600.1", "yes"),
        ('buildCompare="EQ"', "6.3.9601.1", "no"),
        ('buildCompare="GE" revisionCompare="GT"', "6.3.9600.16384", "no"),
        ('buildCompare="GE" revisionCompare="GT"', "6.3.9601.16385", "yes"),
        ('serviceCompare="GE"', "6.3.9600.17000", "unknown"),
        ('buildCompare="??"', "6.3.9600.16384", "unknown"),
    ],
)
def test_compare_rules(rules, version, answer):
    parent = parents((GUEST_DRIVERS, "6.3.9600.16384"), rules=rules)
    assert judge(package(parent), state({key(GUEST_DRIVERS, version): INSTALLED})).answer == answer


GENERAL = "cab/abbodi1406__WHD/Windows8.1-KB2938772-x64.cab"
BASE = "Microsoft-Windows-Client-Features-Package-AutoMerged-net"
UPDATE = "Package_for_KB2919355"


@pytest.mark.data
@pytest.mark.parametrize(
    ("there", "answer", "rule"),
    [
        ({}, "no", "parent"),
        # its own parent is there; that of the package in it, the update of 2014, is not
        ({key(BASE, "6.3.9600.16384"): INSTALLED}, "no", "contained"),
        ({key(BASE, "6.3.9600.16384"): INSTALLED, key(UPDATE, "6.3.1.13"): INSTALLED}, "no", "contained"),
        ({key(BASE, "6.3.9600.16384"): INSTALLED, key(UPDATE, "6.3.1.14"): STAGED}, "no", "contained"),
        ({key(BASE, "6.3.9600.16384"): INSTALLED, key(UPDATE, "6.3.1.14"): INSTALLED}, "yes", "parent"),
        ({key(BASE, "6.3.9600.16384"): INSTALLED, key(UPDATE, "6.3.1.15"): INSTALLED}, "yes", "parent"),
    ],
)
def test_a_package_that_only_brings_packages_applies_where_one_of_them_does(there, answer, rule):
    path = data_file(GENERAL)
    package = read_package(Cabinet.open(FileDevice(path), path=str(path)))
    found = judge(package, state({key("Other", "1.0.0.0"): INSTALLED, **there}))
    assert (found.answer, found.rule) == (answer, rule), found
    if rule == "contained":
        assert UPDATE in found.message


def test_cumulative_updates_compare_the_revision_alone():
    """As those of Windows 11 24H2 do."""
    edition = "Microsoft-Windows-ProfessionalEdition"
    update = package(parents((edition, "10.0.26100.1742"), rules='revisionCompare="GE"'), name="Package_for_RollupFix")
    for version, answer in (
        ("10.0.26100.1742", "yes"), ("10.0.26100.9000", "yes"), ("10.0.26100.1", "no"), ("10.0.22621.3000", "no"),
        ("10.0.26200.6000", "unknown"),
    ):  # fmt: skip
        assert judge(update, state({key(edition, version): INSTALLED}, WINDOWS_11)).answer == answer, version


def test_every_parent_counts():
    both = parents((GUEST_DRIVERS, "6.3.0.0")) + parents(("Other", "1.0.0.0"))
    there = {key(GUEST_DRIVERS, "6.3.9600.16384"): INSTALLED}
    assert judge(package(both), state(there)).answer == "no"
    assert judge(package(both), state({**there, key("Other", "1.0.0.5"): INSTALLED})).answer == "yes"


def test_a_parent_that_must_be_absent():
    absent = parents((GUEST_DRIVERS, "6.3.0.0"), rules='disposition="absent"')
    found = judge(package(absent), state({key(GUEST_DRIVERS, "6.3.9600.1"): INSTALLED}))
    assert (found.answer, found.key) == ("no", "SOFTWARE\\" + key(GUEST_DRIVERS, "6.3.9600.1"))
    assert judge(package(absent), state({key("Other", "1.0.0.0"): INSTALLED})).answer == "yes"


def test_a_parent_that_may_be_staged():
    staged = parents((GUEST_DRIVERS, "6.3.0.0"), rules='disposition="staged"')
    assert judge(package(staged), state({key(GUEST_DRIVERS, "6.3.9600.1"): STAGED})).answer == "yes"


@pytest.mark.parametrize("parent", ["", parents((GUEST_DRIVERS, "6.3.0.0"), rules='disposition="odd"')])
def test_what_is_not_understood_is_unknown(parent):
    assert judge(package(parent), state({key("Other", "1.0.0.0"): INSTALLED})).answer == "unknown"


def driver(inf: str, version: str) -> Keys:
    major, minor, build, revision = (int(part).to_bytes(2, "little") for part in version.split("."))
    stored = bytes(32) + revision + build + minor + major + bytes(8)
    name = f"{inf}_amd64_0123456789abcdef"
    return {rf"{DRIVERS}\{name}": {"Version": stored}, rf"DriverDatabase\DriverInfFiles\{inf}": {"Active": name}}


@pytest.mark.parametrize(
    ("there", "current"),
    [
        ({"wvmbus.inf": NEWER, "wstorvsc.inf": NEWER}, True),
        ({"wvmbus.inf": "10.0.14393.0", "wstorvsc.inf": NEWER}, True),
        ({"wvmbus.inf": NEWER, "wstorvsc.inf": "6.3.9600.19999"}, False),
        ({"wvmbus.inf": "6.3.9600.16384"}, False),
        ({}, None),
    ],
)
def test_drivers_tell_whether_the_guest_is_current(there, current):
    system: Keys = {path: values for inf, version in there.items() for path, values in driver(inf, version).items()}
    assert currency(package(), state({}, system=system)).is_current is current


@pytest.mark.parametrize(
    ("version", "stored", "current"),
    [(NEWER, INSTALLED, True), ("6.3.9600.30000", INSTALLED, True), ("6.3.9600.19999", INSTALLED, False),
     (NEWER, SUPERSEDED, None)],
)  # fmt: skip
def test_servicing_tells_whether_the_guest_is_current(version, stored, current):
    assert currency(package(), state({key(INTEGRATION, version): stored})).is_current is current


@pytest.mark.parametrize(
    ("version", "current"), [("6.3.9600.30000", None), ("6.3.9600.16384", None), ("6.2.9200.16384", False)]
)
def test_the_revision_of_a_built_in_package_decides_nothing(version, current):
    there = {key("Microsoft-Windows-HyperV-Guest-Package", version): INSTALLED}
    assert currency(package(), state(there)).is_current is current


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
@pytest.mark.parametrize(
    ("windows", "updates", "answer"),
    [
        (WINDOWS_7, (), "no"),
        (WINDOWS_7, ("Package_for_KB4474419",), "yes"),
        (WINDOWS_7, ("Package_for_KB3033929",), "yes"),
        (WINDOWS_7, ("Package_for_KB3033929_SP1",), "yes"),
        (WINDOWS_7, ("Package_for_KB30339290",), "no"),
        (WINDOWS_2012_R2, (), None),
    ],
)
def test_sha2_readiness(digest, windows, updates, answer):
    how = Signing(digest=digest)
    cabinet = Cabinet.open(BytesSource(signed_package(package_files(how=how), how)), path="test.cab")
    packages = {key(one, "6.1.1.0"): INSTALLED for one in ("Other", *updates)}
    found = sha2_ready(verify_package(cabinet), state(packages, windows))
    wanted = answer if digest == "sha256" else None
    assert (None if found is None else found.answer) == wanted


def test_oem_keys_are_told_by_the_channel_or_the_product_id():
    def with_key(**values: bytes | str) -> bool | None:
        windows: Keys = {CURRENT_VERSION: {**WINDOWS_7[CURRENT_VERSION], **values}}
        return state({}, windows).oem_key

    def channel(text: str) -> bytes:
        return bytes(1016) + text.encode("utf-16-le").ljust(128, b"\0") + bytes(128)

    assert with_key() is None
    assert with_key(DigitalProductId4=channel("OEM:DM")) is True
    assert with_key(DigitalProductId4=channel("Volume:GVLK"), ProductId="00371-OEM-8992671-00008") is False
    assert with_key(ProductId="00371-OEM-8992671-00008") is True
    assert with_key(ProductId="00330-80000-00000-AA123") is False
    assert with_key(DigitalProductId4=b"short", ProductId="00330-80000-00000-AA123") is False
