"""Servicing packages made for the purpose, their .msu wrappers, and those of deltas."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest

from scripts.fixtures.cab_files import CabFile, CabFolder, build_cab
from tests.package.package_texts import driver_update, identity, inf, manifest, mum, service
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError, InputError, RefusedError, UnsupportedError, VhdtoolError
from vhdtool.package import package_limits
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.msu import MAX_INNER, inner_cabinets, is_update_wrapper
from vhdtool.package.package import Package, PackageDriver, PackageFile, PackageService, read_package

PARENT = f'<parent integrate="delegate">{identity("Base", "6.3.0.0")}</parent>'
DRIVER = "amd64_wvmbus.inf_31bf3856ad364e35_6.3.9600.18398_none_0123456789abcdef"
COMPONENT = "amd64_comp_31bf3856ad364e35_6.3.9600.18398_none_0123456789abcdef"
INF = inf("vmbus", start=0)


def package_files() -> dict[str, bytes]:
    return {
        "update.cat": b"catalog",
        "update.mum": mum("Test-Package", PARENT, driver_update("wvmbus.inf", "force")),
        f"{DRIVER}.manifest": manifest("wvmbus.inf", {"wvmbus.inf": INF, "vmbus.sys": b"sys"}),
        f"{COMPONENT}.manifest": manifest("Comp", {"svc.dll": b"dll"}, service("vmicx", "auto")),
        f"{DRIVER}\\wvmbus.inf": INF,
        f"{DRIVER}\\VMBUS.SYS": b"sys",
        f"{COMPONENT}\\svc.dll": b"dll",
    }


def cabinet_of(files: dict[str, bytes], path: str = "p.cab") -> Cabinet:
    data = build_cab([CabFolder([CabFile(name, content) for name, content in files.items()])])
    return Cabinet.open(BytesSource(data), path=path)


def read(files: dict[str, bytes]) -> Package:
    return read_package(cabinet_of(files))


def fails(files: dict[str, bytes]) -> VhdtoolError:
    with pytest.raises(VhdtoolError) as caught:
        read(files)
    return caught.value


def test_all_that_is_told() -> None:
    found = read(package_files())
    assert (found.path, found.kb, found.architecture, found.identity.name) == (
        "p.cab",
        "KB1234567",
        "amd64",
        "Test-Package",
    )
    assert [one.name for one in found.parents[0].alternatives] == ["Base"]
    assert [one.identity.name for one in found.updates] == ["wvmbus.inf"]
    assert [one.name for one in found.components] == ["wvmbus.inf", "Comp"]
    assert found.drivers == (
        PackageDriver(
            inf="wvmbus.inf",
            identity=found.components[0],
            driver_class="System",
            provider="Somebody",
            released=date(2006, 6, 21),
            version=(6, 3, 9600, 18398),
            ranking="force",
            stored_name=f"{DRIVER}\\wvmbus.inf",
        ),
    )
    assert found.services == (
        PackageService(
            "vmicx", "The vmicx", 2, False, "win32ShareProcess", "svchost.exe -k vmicx", "LocalSystem", (), "Comp", ()
        ),
        PackageService(
            name="vmbus",
            display_name=None,
            start=0,
            delayed=False,
            type="kernelDriver",
            image_path=r"%SystemRoot%\System32\drivers\vmbus.sys",
            account=None,
            triggers=(),
            source="wvmbus.inf",
            releases=(),
        ),
    )
    assert found.files[1] == PackageFile(
        name="vmbus.sys",
        destination="$(runtime.system32)\\",
        component="wvmbus.inf",
        manifest=f"{DRIVER}.manifest",
        stored_name=f"{DRIVER}\\VMBUS.SYS",
        size=3,
        digest_algorithm="sha256",
        digest=hashlib.sha256(b"sys").digest(),
    )
    assert found.integration_version == (6, 3, 9600, 18398)
    assert found.problems == ()


def test_the_lowest_driver_is_the_version_of_the_integration_services() -> None:
    files = package_files()
    other = DRIVER.replace("wvmbus", "wstorvsc")
    lower = inf("storvsc", "01/01/2020,6.3.9600.17000")
    files[f"{other}.manifest"] = manifest("wstorvsc.inf", {"wstorvsc.inf": lower})
    files[f"{other}\\wstorvsc.inf"] = lower
    assert read(files).integration_version == (6, 3, 9600, 17000)
    none = {name.replace("wvmbus", "other"): data.replace(b"wvmbus", b"other") for name, data in files.items()}
    none = {name.replace("wstorvsc", "more"): data.replace(b"wstorvsc", b"more") for name, data in none.items()}
    assert read(none).integration_version is None


def test_services_only_of_the_windows_it_is_for() -> None:
    text = (
        b"[Version]\nClass=a\n[Manufacturer]\na=M,NTamd64.6.0,NTamd64.6.2\n[M.NTamd64.6.0]\nd=old,X\n"
        b"[M.NTamd64.6.2]\nd=new,X\n[old.Services]\nAddService=a,2,o\n[new.Services]\nAddService=a,2,n\n"
        b"[o]\nStartType=2\n[n]\nStartType=3\n"
    )
    files = {
        "update.mum": mum(parents=PARENT),
        f"{DRIVER}.manifest": manifest("x.inf", {"x.inf": text}),
        f"{DRIVER}\\x.inf": text,
    }
    assert [(one.start, one.releases) for one in read(files).services] == [(3, ())]
    both = f"<parent>{identity('Base', '6.3.0.0')}{identity('Base', '6.1.0.0')}</parent>"
    files["update.mum"] = mum(parents=both)
    assert [(one.start, one.releases) for one in read(files).services] == [(2, ((6, 1),)), (3, ((6, 3),))]
    files["update.mum"] = mum()
    assert [(one.start, one.releases) for one in read(files).services] == [(2, ()), (3, ())]


def test_contained_packages() -> None:
    files = package_files()
    inner = mum("Inner", f"<parent>{identity('Feature', '6.3.9600.16384')}</parent>", driver_update("other.inf"))
    files["Inner~31bf3856ad364e35~amd64~~6.3.9600.18398.mum"] = inner
    found = read(files)
    assert [one.identity.name for one in found.contained] == ["Inner"]
    assert [one.inf for one in found.updates] == ["wvmbus.inf", "other.inf"]


def test_payload_that_is_not_there() -> None:
    files = package_files()
    del files[f"{COMPONENT}\\svc.dll"]
    missing = [one for one in read(files).files if one.size is None]
    assert [(one.name, one.stored_name) for one in missing] == [("svc.dll", f"{COMPONENT}\\svc.dll")]


def test_what_can_not_be_read_is_told_and_the_rest_too() -> None:
    files = package_files()
    files[f"{COMPONENT}.manifest"] = b"DCM\x01PA30"
    files[f"{DRIVER}\\wvmbus.inf"] = b"\0"
    files["broken.mum"] = b"<"
    found = read(files)
    assert sorted(one.code for one in found.problems) == ["inf-damaged", "manifest-compressed", "xml-damaged"]
    assert {one.path for one in found.problems} == {
        f"p.cab!{COMPONENT}.manifest",
        f"p.cab!{DRIVER}\\wvmbus.inf",
        "p.cab!broken.mum",
    }
    assert [(one.inf, one.version) for one in found.drivers] == [("wvmbus.inf", None)]


@pytest.mark.parametrize("name", ["update.mum", f"{DRIVER}.manifest"])
def test_tricks_in_xml_are_refused(name: str) -> None:
    files = package_files()
    files[name] = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + files[name].partition(b"?>")[2]
    error = fails(files)
    assert isinstance(error, RefusedError)
    assert (error.code, error.path) == ("xml-forbidden", f"p.cab!{name}")


def test_a_broken_update_mum_is_an_error() -> None:
    files = package_files()
    files["update.mum"] = b"<assembly>"
    assert fails(files).code == "xml-damaged"


def test_two_update_mums_are_an_error() -> None:
    error = fails({**package_files(), "UPDATE.MUM": b""})
    assert isinstance(error, DamagedError)
    assert error.code == "cabinet-name-twice"


@pytest.mark.parametrize("name", ["_manifest_.cix.xml", "_MANIFEST_.CIX.XML", "express.psf.cix.xml", "big.psf"])
def test_deltas_are_refused_by_name(name: str) -> None:
    error = fails({**package_files(), name: b"<Container/>", "0": b"PA30"})
    assert isinstance(error, UnsupportedError)
    assert (error.code, error.found) == ("package-delta", name)


def test_a_store_of_patches_is_only_another_way_to_deliver_whole_files() -> None:
    """The manifests of a cabinet with whole files name the store too, as those of Windows 7 to 8.1 do since 2019."""
    files = {**package_files(), "update.mum": mum(package='psfName="x.psf"')}
    assert read(files).manifest.psf == "x.psf"
    del files[f"{COMPONENT}\\svc.dll"]
    assert (fails(files).code, fails(files).found) == ("package-delta", "x.psf")


def test_a_package_that_says_its_format_is_patches() -> None:
    said = '<mum2:customInformation xmlns:mum2="urn:schemas-microsoft-com:asm.v3" PackageFormat="{}"/>'
    files = {**package_files(), "update.mum": mum(updates=said.format("PSFX"))}
    assert (fails(files).code, fails(files).found) == ("package-delta", "PackageFormat PSFX")
    assert read({**files, "update.mum": mum(updates=said.format("other"))}).manifest.format == "other"


@pytest.mark.parametrize("folder", ["f", "R", "n"])
def test_patches_of_a_component_are_refused_by_name(folder: str) -> None:
    files = package_files()
    files[rf"{COMPONENT}\{folder}\svc.dll"] = bytes(4) + b"PA30"
    error = fails(files)
    assert (error.code, error.found) == ("package-delta", rf"{COMPONENT}\{folder}\svc.dll")
    elsewhere = {**package_files(), rf"other\{folder}\svc.dll": b"no component"}
    assert read(elsewhere).kb == "KB1234567"


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_DESCRIBED", 900), ("MAX_INFS", 100), ("MAX_MARKS", 20), ("MAX_NAMED", 4)]
)
def test_a_package_that_says_too_much_is_refused(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_limits, limit, value)
    error = fails(package_files())
    assert isinstance(error, RefusedError)
    assert (error.code, error.path) == ("package-too-large", "p.cab")


def test_the_packages_that_a_package_brings() -> None:
    def bringing(*names: str) -> str:
        return "".join(f'<update name="{one}"><package>{identity(one)}</package></update>' for one in names)

    files = package_files()
    deep = 'applicabilityEvaluation="deep"'
    files["update.mum"] = mum("Outer", PARENT, bringing("One", "TWO", "Absent"), package=deep)
    files["one.mum"] = mum("One", updates=bringing("Three"))
    files["two.mum"] = mum("Two")
    files["three.mum"] = mum("Three", package=deep)
    found = read(files)
    assert [one.identity.name for one in found.inside(found.manifest)] == ["One", "Two"]
    one, two, three = found.contained
    assert found.inside(one) == (three,)
    assert found.inside(two) == ()
    assert [one.deep for one in (found.manifest, *found.contained)] == [True, False, False, True]


def wrapped(*inner: dict[str, bytes], names: tuple[str, ...] = ("a.cab", "b.cab")) -> dict[str, bytes]:
    cabs = {
        name: build_cab([CabFolder([CabFile(file, data) for file, data in files.items()])])
        for name, files in zip(names, inner, strict=False)
    }
    return {"WSUSSCAN.cab": b"scan", "plan.xml": b"<a/>", **cabs, "plan-pkgProperties.txt": b"KB"}


def test_an_msu_opens_to_its_cabinets() -> None:
    outer = cabinet_of(wrapped({"other.txt": b""}, package_files()), path="u.msu")
    assert is_update_wrapper(outer)
    other, inner = inner_cabinets(outer)
    assert (other.path, inner.path) == ("u.msu!a.cab", "u.msu!b.cab")
    assert not is_update_wrapper(inner)
    assert inner_cabinets(inner) == ()
    assert read_package(inner).kb == "KB1234567"
    with pytest.raises(UnsupportedError) as caught:
        read_package(outer)
    assert caught.value.code == "not-a-package"
    assert "around" in caught.value.message


def test_an_msu_of_stack_and_update() -> None:
    """As since 2019: a servicing stack and an update in one, with lists of the scan in cabinets of their own."""
    stack = {"update.mum": mum("Stack")}
    names = ("SSU-1.cab", "Windows10.0-KB1-x64.cab", "DesktopDeployment.cab")
    outer = cabinet_of(wrapped(stack, package_files(), {"a.dll": b""}, names=names), path="u.msu")
    assert [one.path for one in inner_cabinets(outer)] == [f"u.msu!{name}" for name in names]
    around = wrapped(wrapped(stack, package_files(), names=names), names=("Windows10.0-KB1-x64.cab",))
    found = inner_cabinets(cabinet_of(around, path="u.msu"))
    assert [one.path for one in found] == [f"u.msu!Windows10.0-KB1-x64.cab!{name}" for name in names[:2]]
    assert [read_package(one).identity.name for one in found] == ["Stack", "Test-Package"]


def test_a_cabinet_of_patches_around_a_cabinet() -> None:
    around = wrapped({"_manifest_.cix.xml": b"", "x.cab": b"MSCF"})
    with pytest.raises(UnsupportedError) as caught:
        inner_cabinets(cabinet_of(around, path="u.msu"))
    assert (caught.value.code, caught.value.path) == ("package-delta", "u.msu!a.cab")


def test_an_msu_with_a_store_of_patches() -> None:
    outer = cabinet_of({**wrapped(package_files()), "u.psf": b"PSTREAM"})
    with pytest.raises(UnsupportedError) as caught:
        inner_cabinets(outer)
    assert caught.value.code == "package-delta"


def test_an_msu_with_too_much_or_nothing_in_it() -> None:
    names = tuple(f"{number}.cab" for number in range(MAX_INNER + 1))
    outer = cabinet_of(wrapped(*[package_files()] * len(names), names=names))
    with pytest.raises(InputError) as caught:
        inner_cabinets(outer)
    assert caught.value.code == "msu-too-many"
    empty = cabinet_of({"WSUSSCAN.cab": b"", r"sub\a.cab": b""})
    assert not is_update_wrapper(empty)
    assert inner_cabinets(empty) == ()
    assert fails({"a.txt": b""}).code == "not-a-package"


def test_an_msu_with_a_broken_cabinet() -> None:
    with pytest.raises(VhdtoolError) as caught:
        inner_cabinets(cabinet_of({"WSUSSCAN.cab": b"", "a.cab": b"MSCF"}, path="u.msu"))
    assert (caught.value.code, caught.value.path) == ("cabinet-damaged", "u.msu!a.cab")
