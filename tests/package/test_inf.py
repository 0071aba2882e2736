"""INFs: the driver's version, and its services on each Windows."""

from __future__ import annotations

import time
from datetime import date

import pytest

from tests.package.package_texts import inf
from vhdtool.errors import DamagedError
from vhdtool.package import inf as inf_module
from vhdtool.package.inf import DriverInf, InfService, ModelsSection, read_inf, taken_models


def parsed(text: str, encoding: str = "utf-8") -> DriverInf:
    return read_inf(text.encode(encoding), path="a.inf")


def fails(data: bytes) -> DamagedError:
    with pytest.raises(DamagedError) as caught:
        read_inf(data, path="a.inf")
    assert (caught.value.code, caught.value.path) == ("inf-damaged", "a.inf")
    return caught.value


def test_facts() -> None:
    found = read_inf(inf("drv", start=0), path="a.inf")
    models = ModelsSection("M", "NTamd64")
    assert found == DriverInf(
        driver_class="System",
        class_guid=None,
        provider="Somebody",
        released=date(2006, 6, 21),
        version=(6, 3, 9600, 18398),
        catalog=None,
        models=(models,),
        services=(InfService("drv", None, 0, 1, r"%SystemRoot%\System32\drivers\drv.sys", (models,)),),
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert parsed('[Version]\nProvider="Größe"', encoding).provider == "Größe"
    big_endian = b"\xfe\xff" + "[Version]\nClass=a".encode("utf-16-be")
    assert read_inf(big_endian, path="a").driver_class == "a"


def test_how_lines_are_read() -> None:
    found = parsed(
        "\r\n".join(
            [
                "; [Version]",
                "  [ VERSION ]  ; comment",
                'Class = "A;B" ; comment with "quotes"',
                "ClassGuid={4D36E97D-E325-11CE-BFC1-08002BE10318}",
                "Provider = %who% and 100%% of %unknown%",
                "CatalogFile = part\\",
                "  .cat",
                "[Strings]",
                'who = "say ""hi"""',
                "[version]",
                "DriverVer = 12/31/1999",
            ]
        )
    )
    assert (found.driver_class, found.class_guid) == ("A;B", "4d36e97d-e325-11ce-bfc1-08002be10318")
    assert found.provider == 'say "hi" and 100% of %unknown%'
    assert found.catalog == "part.cat"
    assert (found.released, found.version) == (date(1999, 12, 31), None)


def test_english_strings_come_before_others() -> None:
    text = "[Version]\nProvider=%P%\n[Strings]\nP=neutral\n[Strings.0407]\nP=deutsch\n"
    assert parsed(text).provider == "neutral"
    assert parsed(text + "[Strings.0409]\nP=english\n").provider == "english"


@pytest.mark.parametrize(
    ("written", "released", "version"),
    [
        ("06/21/2006,6.3.9600.18398", date(2006, 6, 21), (6, 3, 9600, 18398)),
        ("6-1-2006, 10.0", date(2006, 6, 1), (10, 0, 0, 0)),
        ("06/21/2006,7", date(2006, 6, 21), (7, 0, 0, 0)),
        ("13/01/2006,1.2.3.4.5", None, None),
        ("today,1.2.3.70000", None, None),
        ("", None, None),
    ],
)
def test_driver_versions(written: str, released: date | None, version: tuple[int, ...] | None) -> None:
    found = parsed(f"[Version]\nDriverVer={written}")
    assert (found.released, found.version) == (released, version)


NETWORK = """
[Version]
Class=Net
[Manufacturer]
%M%=MS,NTx86.5.0,NTamd64.5.1,NTx86.6.0,NTamd64.6.0,NTamd64.6.2,NTamd64.9.9
[MS]
d=old,X
[MS.NTx86.5.0]
d=old,X
[MS.NTamd64.5.1]
d=old,X
[MS.NTx86.6.0]
d=vista,X
[MS.NTamd64.6.0]
d=vista,X
[MS.NTamd64.6.2]
d=eight,X
[old.Services]
AddService=net,2,old_inst
[vista.NT.Services]
AddService=,2
AddService=net,2,vista_inst
[eight.Services]
addservice = "net" , 2 , eight_inst
AddService = elsewhere, 2, section_of_another_file
[always.ndi.Services]
AddService = helper,,helper_inst
[gone.Services]
DelService = net
[old_inst]
StartType=4
ServiceBinary=%12%\\net50.sys
[vista_inst]
StartType=%AUTO%
ServiceBinary=%11%\\net60.exe
[eight_inst]
StartType=0x3
ServiceType=%KERNEL%
ServiceBinary=%%SystemRoot%%\\net63.sys
DisplayName=%Shown%
[helper_inst]
StartType=many
[Strings]
AUTO=2
KERNEL=0x1
Shown="@res.dll,-1"
"""


@pytest.mark.parametrize(
    ("architecture", "release", "expected"),
    [
        ("amd64", (5, 0), [("net", 4, r"%SystemRoot%\System32\drivers\net50.sys"), ("helper", None, None)]),
        ("amd64", (5, 2), [("net", 4, r"%SystemRoot%\System32\drivers\net50.sys"), ("helper", None, None)]),
        ("amd64", (6, 1), [("net", 2, r"%SystemRoot%\System32\net60.exe"), ("helper", None, None)]),
        ("AMD64", (10, 0), [("net", 3, r"%SystemRoot%\net63.sys"), ("helper", None, None)]),
        ("x86", (6, 3), [("net", 2, r"%SystemRoot%\System32\net60.exe"), ("helper", None, None)]),
        ("arm64", (10, 0), [("net", 4, r"%SystemRoot%\System32\drivers\net50.sys"), ("helper", None, None)]),
    ],
)
def test_services_of_one_windows(architecture: str, release: tuple[int, int], expected: list[object]) -> None:
    found = parsed(NETWORK).services_on(architecture, release)
    assert [(one.name, one.start, one.binary) for one in found] == expected


def test_names_and_types_of_services() -> None:
    eight = parsed(NETWORK).services_on("amd64", (6, 3))[0]
    assert (eight.display_name, eight.type) == ("@res.dll,-1", 1)


def test_kinds_of_windows_are_not_told_apart() -> None:
    models = [ModelsSection("m", f"NTamd64.6.0.{kind}") for kind in ("0x0000001", "0x0000003")]
    older = ModelsSection("m", "NTamd64.5.2")
    assert taken_models([*models, older], "amd64", (6, 1)) == set(models)
    assert taken_models([older, ModelsSection("m", "NT.6")], "amd64", (6, 1)) == {ModelsSection("m", "NT.6")}
    assert taken_models([ModelsSection("m", "NT.6"), ModelsSection("m", "NTamd64.6")], "amd64", (6, 1)) == {
        ModelsSection("m", "NTamd64.6")
    }
    assert taken_models([ModelsSection("m", "NTamd64.11")], "amd64", (10, 0)) == frozenset()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no sections",
        b"MZ\0\0",
        "[Version]\n\0".encode("utf-16"),
        b"[Version]\nClass=" + b"a" * 5000,
        b"[Version]\nClass=" + b"%a%" * 1000 + b"\n[Strings]\na=" + b"b" * 4000,
        b"[Version]\nClass=" + b"a\\\n" * 5000,
    ],
)
def test_what_is_no_inf(data: bytes) -> None:
    fails(data)


def test_limits(monkeypatch) -> None:
    many = "[Version]\n[a.Services]\n" + "".join(f"AddService=s{n},2,i\n" for n in range(3000)) + "[i]\nStartType=2\n"
    fails(many.encode())
    monkeypatch.setattr(inf_module, "MAX_INF", 100)
    fails(b"[Version]\n" + b";" * 100)


@pytest.mark.parametrize("line", ['";' * 2000, '",' * 2000, '"' * 4000, "%" * 4000, ";" * 4000, "[" * 4000, "=" * 4000])
def test_costs_are_bounded(line: str) -> None:
    started = time.perf_counter()
    parsed(f"[Version]\nClass={line}\n[Manufacturer]\na={line}\n[x.Services]\n" + f"AddService={line}\n" * 200)
    assert time.perf_counter() - started < 5
