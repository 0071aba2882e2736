"""The genuine packages of the collection. Expected values were read by hand from what cabextract unpacks."""

from __future__ import annotations

import base64
from datetime import date, datetime

import pytest

from tests.data_files import data_file
from vhdtool.bytesource import BytesSource
from vhdtool.errors import UnsupportedError
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.component_manifest import ServiceTrigger
from vhdtool.package.identity import VersionRules
from vhdtool.package.msu import inner_cabinets, is_update_wrapper
from vhdtool.package.package import Package, read_package

pytestmark = pytest.mark.data

GUESTS_62 = "cab/marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab"
GUESTS_6X = "cab/marcinbojko__hvintegrationservices/Windows6.x-HyperVIntegrationServices-x64.cab"
VERSION = (6, 3, 9600, 18398)
SVCHOST = r"%SystemRoot%\System32\svchost.exe -k "
TRIGGERS = {
    "vmicheartbeat": "57164f39-9115-4e78-ab55-382f3bd5422d",
    "vmickvpexchange": "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6",
    "vmicshutdown": "0e0b6031-5213-4934-818b-38d90ced39db",
    "vmictimesync": "9527e630-d0ae-497b-adce-e80ab0175caf",
    "vmicvss": "35fa2e29-ea23-4236-96ae-3a6ebacba440",
    "vmicrdv": "276aacf4-ac15-426c-98dd-7521ad3f01fe",
    "vmicguestinterface": "34d14be3-dee4-41c8-9ae7-6b174977c192",
}
DRIVER_SERVICES = {
    "Synth3dVsc": (3, "Synth3dVsc.sys"),
    "dmvsc": (3, "dmvsc.sys"),
    "fcvsc": (3, "fcvsc.sys"),
    "gencounter": (3, "vmgencounter.sys"),
    "hyperkbd": (3, "hyperkbd.sys"),
    "netvscvfpp": (3, "netvsc63.sys"),
    "s3cap": (3, "vms3cap.sys"),
    "storflt": (0, "vmstorfl.sys"),
    "storvsc": (0, "storvsc.sys"),
    "vmbus": (0, "vmbus.sys"),
    "VMBusHID": (3, "VMBusHID.sys"),
}
"""Those that are the same in both packages: start and binary."""
INFS = {
    "synth3dvsc.inf", "wdmvsc.inf", "wfcvsc.inf", "wgencounter.inf", "whyperkbd.inf", "wnetvsc.inf",
    "wnetvsc_vfpp.inf", "ws3cap.inf", "wstorflt.inf", "wstorvsc.inf", "wvmbus.inf", "wvmbushid.inf",
    "wvmbusvideo.inf", "wvpcinull.inf",
}  # fmt: skip
DELTAS = {
    "cab/stdin82__htfx/Windows6.1-KB2646060-v3-x64.msu": "Windows6.1-KB2646060-v3-x64.cab",
    "cab/stdin82__htfx/Windows6.1-KB943790-x64.msu": "Windows6.0-KB943790-x64.cab",
    "cab/stdin82__htfx/Windows8.1-KB3024680-v2-x64.msu": "Windows8.1-KB3024680-v2-x64.cab",
    "cab/dotnet__runtime-assets/Windows6.1-KB3004361-x64.msu": "Windows6.1-KB3004361-x64.cab",
}


def cabinet(name: str) -> Cabinet:
    return Cabinet.open(BytesSource(data_file(name).read_bytes()), path=name)


def package(name: str) -> Package:
    found = read_package(cabinet(name))
    assert found.problems == ()
    return found


def test_tables_of_the_integration_services() -> None:
    found = cabinet(GUESTS_62)
    assert (len(found.members), found.size, found.signature_range) == (73, 772947, (757371, 15576))
    assert {member.compression for member in found.members} == {"LZX:21"}
    assert sum(member.size for member in found.members) == 3391213
    mum = found.member("update.mum")
    assert (mum.size, mum.modified) == (14772, datetime(2016, 6, 25, 7, 15, 32))


@pytest.mark.parametrize(
    ("name", "identity", "updates", "files"),
    [
        (GUESTS_62, "Microsoft-Hyper-V-Integration-Services-Package-2", 17, 52),
        (GUESTS_6X, "Microsoft-Hyper-V-Integration-Services-Package", 15, 47),
    ],
)
def test_identity_of_the_integration_services(name: str, identity: str, updates: int, files: int) -> None:
    found = package(name)
    assert found.identity.cbs_name == f"{identity}~31bf3856ad364e35~amd64~~6.3.9600.18398"
    assert (found.kb, found.architecture, found.integration_version) == ("KB3158626", "amd64", VERSION)
    manifest = found.manifest
    assert (manifest.description, manifest.release_type, manifest.restart) == (
        "Fix for KB3158626",
        "Update",
        "required",
    )
    assert manifest.support == "http://support.microsoft.com/?kbid=3158626"
    assert (manifest.installer, found.contained, len(found.updates), len(found.files)) == (None, (), updates, files)
    assert all(one.size is not None and one.digest_algorithm == "sha256" for one in found.files)


def test_parents_of_the_integration_services() -> None:
    [rule] = package(GUESTS_62).parents
    assert (rule.integrate, rule.disposition, rule.rules) == ("delegate", None, VersionRules())
    assert [(one.name, one.version_text) for one in rule.alternatives] == [
        ("Microsoft-Hyper-V-Guest-Integration-Drivers-Package", "6.2.9200.16384"),
        ("Microsoft-Hyper-V-WinPE-Drivers-Package", "6.2.9200.16384"),
        ("Microsoft-Hyper-V-Guest-Integration-Drivers-Package", "6.3.0.0"),
        ("Microsoft-Hyper-V-WinPE-Drivers-Package", "6.3.0.0"),
    ]
    [rule] = package(GUESTS_6X).parents
    assert (rule.integrate, rule.rules) == ("delegate", VersionRules())
    editions = ("Ultimate", "Business", "Enterprise", "UltimateN", "BusinessN", "EnterpriseN")
    assert [(one.name, one.version_text) for one in rule.alternatives] == [
        *((f"Microsoft-Windows-{edition}Edition", "6.0.6000.16386") for edition in editions),
        ("Microsoft-Windows-Foundation-Package", "6.0.6001.18000"),
        ("Microsoft-Windows-ServerCore-Package", "6.0.6001.18000"),
        ("Microsoft-Windows-Foundation-Package", "6.1.7600.16385"),
        ("Microsoft-Windows-ServerCore-Package", "6.1.7600.16385"),
    ]
    assert {(one.architecture, one.language, one.public_key_token) for one in rule.alternatives} == {
        ("amd64", "neutral", "31bf3856ad364e35")
    }


@pytest.mark.parametrize(
    ("name", "more", "forced"),
    [
        (GUESTS_62, {"wvmbusr.inf", "wvmic2.inf"}, 4),
        (GUESTS_6X, {"wvmic.inf"}, 2),
    ],
)
def test_drivers_of_the_integration_services(name: str, more: set[str], forced: int) -> None:
    drivers = package(name).drivers
    assert {one.inf.lower() for one in drivers} == INFS | more
    assert {(one.released, one.version, one.provider) for one in drivers} == {(date(2006, 6, 21), VERSION, "Microsoft")}
    assert [one.ranking for one in drivers].count("force") == forced
    assert {one.ranking for one in drivers} == {"force", "normal"}
    classes = {one.inf: one.driver_class for one in drivers}
    assert (classes["wnetvsc.inf"], classes["wstorvsc.inf"], classes["wvmbushid.inf"], classes["wvmbus.inf"]) == (
        "Net",
        "SCSIAdapter",
        "HIDClass",
        "SYSTEM",
    )


def test_services_for_windows_8_and_8_1() -> None:
    services = {one.name: one for one in package(GUESTS_62).services}
    groups = {"vmicheartbeat": "ICService", "vmicrdv": "ICService", "vmictimesync": "LocalServiceNetworkRestricted"}
    for name, guid in TRIGGERS.items():
        one = services[name]
        assert (one.start, one.type, one.source) == (3, "win32ShareProcess", "Microsoft-Hyper-V-Integration-Services")
        assert one.triggers == (ServiceTrigger("start", "DeviceInterfaceArrival", guid),)
        group = groups.get(name, "LocalSystemNetworkRestricted")
        assert (one.image_path or "").lower() == f"{SVCHOST}{group}".lower()
        account = r"NT AUTHORITY\LocalService" if name == "vmictimesync" else "LocalSystem"
        assert one.account == account
    assert services["vmicguestinterface"].display_name == r"@%systemroot%\system32\vmicres.dll,-801"
    expected = DRIVER_SERVICES | {
        "netvsc": (3, "netvsc63.sys"),
        "vmbusr": (3, "vmbusr.sys"),
        "HyperVideo": (3, "HyperVideo.sys"),
    }
    drivers = {name: one for name, one in services.items() if name not in TRIGGERS}
    assert {name: (one.start, one.image_path) for name, one in drivers.items()} == {
        name: (start, rf"%SystemRoot%\System32\drivers\{binary}") for name, (start, binary) in expected.items()
    }


def test_services_for_windows_7_and_vista() -> None:
    services = {one.name: one for one in package(GUESTS_6X).services}
    for name in TRIGGERS:
        one = services[name]
        kind = "win32OwnProcess" if name == "vmicguestinterface" else "win32ShareProcess"
        assert (one.start, one.type, one.source, one.triggers) == (2, kind, "wvmic.inf", ())
    assert services["vmickvpexchange"].image_path == f"{SVCHOST}LocalSystemNetworkRestricted"
    assert services["vmicheartbeat"].display_name == r"@%SystemRoot%\system32\vmicres.dll,-101"
    expected = DRIVER_SERVICES | {"netvsc": (3, "netvsc60.sys"), "SynthVid": (3, "VMBusVideoM.sys")}
    drivers = {name: one for name, one in services.items() if name not in TRIGGERS}
    assert {name: (one.start, one.image_path) for name, one in drivers.items()} == {
        name: (start, rf"%SystemRoot%\System32\drivers\{binary}") for name, (start, binary) in expected.items()
    }


def test_files_of_the_integration_services() -> None:
    files = {one.name: one for one in package(GUESTS_62).files}
    icsvc = files["icsvc.dll"]
    assert (icsvc.size, icsvc.destination, icsvc.component) == (
        541184,
        "$(runtime.system32)\\",
        "Microsoft-Hyper-V-Integration-Services",
    )
    assert icsvc.digest == base64.b64decode("39Iaq+0/yqutVR+dbAYQ4bW6ug8qdYr7gF+yt+4V5Vo=")
    assert files["vmbus.sys"].digest == bytes.fromhex(
        "76e44814074e9a93639c80cd2d50421d5dfec3fa2feb8bbe2ad92d85805455e0"
    )
    assert (files["vmbus.sys"].size, files["vmbus.sys"].component) == (96880, "wvmbus.inf")


def test_a_general_update() -> None:
    found = package("cab/abbodi1406__WHD/Windows8.1-KB2938772-x64.cab")
    assert found.identity.cbs_name == "Package_for_KB2938772~31bf3856ad364e35~amd64~~6.3.1.0"
    assert (found.kb, found.manifest.restart, found.integration_version) == ("KB2938772", "possible", None)
    [rule] = found.parents
    assert (rule.integrate, rule.disposition) == ("separate", "detect")
    assert rule.rules == VersionRules(build="EQ", service="EQ")
    assert len(rule.alternatives) == 7
    assert found.manifest.installer is not None
    assert found.manifest.installer.version == (6, 0, 0, 0)
    contained = {one.identity.name: one for one in found.contained}
    assert contained.keys() == {
        "Package_for_KB2938772_RTM",
        "Package_for_KB2938772_RTM_GM",
        *(f"Package_{number}_for_KB2938772" for number in range(1, 6)),
    }
    [rule] = contained["Package_for_KB2938772_RTM_GM"].parents
    assert rule.rules == VersionRules(build="GE", revision="GE")
    assert [(one.name, one.version) for one in rule.alternatives] == [("Package_for_KB2919355", (6, 3, 1, 14))]
    # applicabilityEvaluation="deep" stands in the three that bring packages
    inside = [found.manifest]
    while inside[-1].deep:
        inside += found.inside(inside[-1])
    assert [one.identity.name for one in inside] == [
        "Package_for_KB2938772",
        "Package_for_KB2938772_RTM",
        "Package_for_KB2938772_RTM_GM",
        *(f"Package_{number}_for_KB2938772" for number in range(1, 6)),
    ]
    [driver] = found.drivers
    assert (driver.inf, driver.version, driver.ranking) == ("netrasa.inf", (6, 3, 9600, 17039), "currentDevices")
    assert {(one.name, one.start) for one in found.services} == {
        ("AsyncMac", 3),
        ("Rasl2tp", 3),
        ("PptpMiniport", 3),
        ("NdisWan", 3),
        ("RasPppoe", 3),
    }
    assert sorted(one.name for one in found.files) == ["netcfgx.dll", "netcfgx.dll", "netrasa.inf"]


def test_a_package_by_others() -> None:
    found = package("cab/he3als__online-sxs/Z-he3als-NoTelemetry-Package31bf3856ad364e35amd641.0.0.0.cab")
    assert found.identity.name == "Z-he3als-NoTelemetry-Package"
    assert (found.kb, found.parents, found.manifest.release_type) == (None, (), "Feature Pack")
    assert (len(found.updates), len(found.components), found.files) == (81, 162, ())


@pytest.mark.parametrize("name", DELTAS)
def test_packages_of_deltas(name: str) -> None:
    outer = cabinet(name)
    assert is_update_wrapper(outer)
    [inner] = inner_cabinets(outer)
    assert inner.path == f"{name}!{DELTAS[name]}"
    with pytest.raises(UnsupportedError) as caught:
        read_package(inner)
    assert (caught.value.code, caught.value.found) == ("package-delta", "_manifest_.cix.xml")


def test_a_cabinet_of_something_else() -> None:
    with pytest.raises(UnsupportedError) as caught:
        package("cab/stdin82__htfx/eqnedt32loc2010-kb4011610-fullfile-x64-glb.cab")
    assert caught.value.code == "not-a-package"
