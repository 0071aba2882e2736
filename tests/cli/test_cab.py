from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from scripts.fixtures.cab_files import STORED, CabFile, CabFolder, build_cab, build_set
from scripts.fixtures.signed_package import package_files, signed_package, trusted_root
from tests.cli.harness import run
from tests.data_files import data_file
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms
from tests.staging.packages import NEWER, write_package

GENUINE = "cab/marcinbojko__hvintegrationservices/Windows6.{}-HyperVIntegrationServices-x64.cab"
MSU = "cab/dotnet__runtime-assets/Windows6.1-KB3004361-x64.msu"


def answer(command: str, *arguments: str | Path, code: int = 0) -> Any:
    result = run("cab", command, *map(str, arguments), "--json")
    assert result.code == code, result.stderr
    assert_conforms(result.json, f"cab-{command}")
    return result.json


@pytest.fixture
def package(tmp_path) -> Path:
    """A package of the test authority, and its root beside it."""
    path = tmp_path / "update.cab"
    path.write_bytes(signed_package())
    (tmp_path / "root.der").write_bytes(trusted_root())
    return path


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "package_name", "drivers", "services", "files"),
    [
        ("2", "Microsoft-Hyper-V-Integration-Services-Package-2", 16, 21, 52),
        ("x", "Microsoft-Hyper-V-Integration-Services-Package", 15, 20, 47),
    ],
)
def test_genuine_package_is_shown(name, package_name, drivers, services, files):
    path = data_file(GENUINE.format(name))
    (package,) = answer("show", path)["packages"]
    assert (package["name"], package["kb"], package["version"]) == (package_name, "KB3158626", "6.3.9600.18398")
    assert (package["architecture"], package["integration_version"]) == ("amd64", "6.3.9600.18398")
    assert (len(package["drivers"]), len(package["services"]), len(package["files"])) == (drivers, services, files)
    starts = {service["name"]: service["start"] for service in package["services"]}
    assert (starts["vmbus"], starts["storvsc"]) == ("boot", "boot")
    assert starts["vmicheartbeat"] == ("manual" if name == "2" else "auto")
    text = run("cab", "show", str(path)).text
    for word in ("KB3158626", "wvmbus.inf", "vmicguestinterface", "Needs one of"):
        assert word in text


@pytest.mark.data
@pytest.mark.parametrize(("name", "catalog"), [("2", "valid"), ("x", "weak")])
def test_genuine_package_is_trusted(name, catalog):
    document = answer("verify", data_file(GENUINE.format(name)))
    (package,) = document["packages"]
    states = {layer["name"]: layer["state"] for layer in package["layers"]}
    assert states == {"digest": "valid", "signature": "valid", "catalog": catalog, "payload": "valid"}
    assert document["trusted"]


@pytest.mark.data
def test_changed_byte_of_a_genuine_package_is_found(tmp_path):
    data = bytearray(data_file(GENUINE.format("2")).read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "tampered.cab"
    path.write_bytes(data)
    document = answer("verify", path, code=1)
    assert not document["trusted"]
    layers = {layer["name"]: layer for layer in document["packages"][0]["layers"]}
    assert layers["digest"]["state"] == "invalid"
    assert "NOT trusted" in run("cab", "verify", str(path)).text


def test_update_wrapper_is_opened_to_the_package_inside(package, tmp_path):
    path = tmp_path / "update.msu"
    inner = CabFile("Windows6.1-KB0000001-x64.cab", package.read_bytes())
    path.write_bytes(build_cab([CabFolder([inner, CabFile("Windows6.1-KB0000001-x64.xml", b"<unattend/>")])]))
    (shown,) = answer("show", path)["packages"]
    assert shown["path"] == f"{path}!{inner.name}"
    document = answer("verify", path, "--trust-root", package.with_name("root.der"), code=1)
    assert document["packages"][0]["trusted"]
    assert [layer["state"] for layer in document["wrapper"]["layers"]] == ["missing", "missing"]


@pytest.mark.data
def test_delta_package_is_told_by_name():
    result = run("cab", "show", str(data_file(MSU)), "--json")
    assert (result.code, result.json["error"]["code"]) == (3, "package-delta")
    (package,) = answer("verify", data_file(MSU), code=1)["packages"]
    payload = next(layer for layer in package["layers"] if layer["name"] == "payload")
    assert payload["state"] == "unknown", "its files are patches: what they make can't be told"


def test_own_root_is_trusted_when_it_is_named(package):
    stranger = answer("verify", package, code=1)
    assert {layer["name"] for layer in stranger["packages"][0]["layers"] if layer["state"] == "invalid"} >= {
        "signature"
    }
    trusted = answer("verify", package, "--trust-root", package.with_name("root.der"))
    assert trusted["trusted"]
    assert not trusted["packages"][0]["layers"][1]["signatures"][0]["root_is_pinned"]


def test_files_are_unpacked_and_nothing_is_overwritten(package, tmp_path):
    target = tmp_path / "unpacked"
    document = answer("extract", package, target)
    contents = package_files()
    assert len(document["files"]) == len(contents)
    for saved in document["files"]:
        stored = Path(saved["saved_as"]).read_bytes()
        assert stored == contents[saved["path"]]
        assert hashlib.sha256(stored).hexdigest() == saved["sha256"]
    assert run("cab", "extract", str(package), str(target)).code == 4
    one = answer("extract", package, tmp_path / "one", "UPDATE.MUM")
    assert [file["path"] for file in one["files"]] == ["update.mum"]
    assert run("cab", "extract", str(package), str(tmp_path / "two"), "absent").code == 1


def test_name_that_leads_out_is_refused(tmp_path):
    path = tmp_path / "evil.cab"
    path.write_bytes(build_cab([CabFolder([CabFile("..\\evil.txt", b"evil")])]))
    result = run("cab", "extract", str(path), str(tmp_path / "in"), "--json")
    assert result.code == 4
    assert result.json["error"]["code"] == "cabinet-unsafe-name"
    assert not (tmp_path / "evil.txt").exists()


def cabinet_of(path: Path, *names: str) -> Path:
    path.write_bytes(build_cab([CabFolder([CabFile(name, name.encode()) for name in names])]))
    return path


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("ok", "..\\evil"), "cabinet-unsafe-name"),
        (("ok", "a:stream"), "cabinet-unsafe-name"),
        (("ok", "twice", "TWICE"), "cabinet-name-twice"),
        (("ok", "twice", "twice."), "cabinet-name-twice"),
        (("ok", "a", "A\\b"), "cabinet-name-twice"),
        (("ok", "there"), "exists"),
        (("ok", "link"), "exists"),
        (("ok", "linked\\file"), "link-in-the-way"),
        (("ok", "linked\\below\\file"), "link-in-the-way"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(tmp_path, names, code):
    path = cabinet_of(tmp_path / "a.cab", *names)
    target, outside = tmp_path / "in", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "there").write_bytes(b"old")
    (target / "link").symlink_to(outside / "new")
    (target / "linked").symlink_to(outside)
    result = run("cab", "extract", str(path), str(target), "--json")
    assert result.json["error"]["code"] == code
    assert result.code in {3, 4}
    assert sorted(one.name for one in target.iterdir()) == ["link", "linked", "there"]
    assert list(outside.iterdir()) == []
    assert (target / "there").read_bytes() == b"old"
    # what is sound in it can still be had by its name
    assert run("cab", "extract", str(path), str(target), "ok").code == 0
    assert (target / "ok").read_bytes() == b"ok"


def test_names_that_a_host_keeps_for_devices(tmp_path):
    path = cabinet_of(tmp_path / "a.cab", "CON", "nul.txt", "sub\\aux", "dots.", "tail ")
    files = answer("extract", path, tmp_path / "in")["files"]
    assert [Path(one["saved_as"]).name for one in files] == ["%43ON", "%6Eul.txt", "%61ux", "dots%2E", "tail%20"]


def test_a_set_through_its_parts(tmp_path):
    names = ("one.cab", "two.cab", "three.cab")
    content = [CabFile(name, data) for name, data in package_files().items()]
    parts = build_set(CabFolder(content, STORED), 40_000, names)
    for name, data in zip(names, parts, strict=True):
        (tmp_path / name).write_bytes(data)
    rest = ["--part", str(tmp_path / names[1]), "--part", str(tmp_path / names[2])]
    (shown,) = answer("show", tmp_path / names[0], *rest)["packages"]
    assert shown["kb"] == "KB9999999"
    layers = answer("verify", tmp_path / names[0], *rest, "--trust-root", write_root(tmp_path), code=1)["packages"][0]
    assert [one["state"] for one in layers["layers"]] == ["missing", "missing", "valid", "valid"]
    assert len(answer("extract", tmp_path / names[0], tmp_path / "in", *rest)["files"]) == len(content)
    alone = answer("extract", tmp_path / names[0], tmp_path / "alone", code=5)
    assert {one["code"] for one in alone["skipped"]} == {"cabinet-part-missing"}
    wrong = run("cab", "show", str(tmp_path / names[0]), "--part", str(tmp_path / names[2]), "--json")
    assert wrong.json["error"]["code"] == "cabinet-part-wrong"


def write_root(folder: Path) -> Path:
    path = folder / "root.der"
    path.write_bytes(trusted_root())
    return path


def test_a_package_against_a_guest(tmp_path):
    image = fixture_file("windows-guest.vhdx")
    path = write_package(tmp_path / "fits.cab")
    document = answer("show", path, "--image", image)
    (compared,) = document["compared"]
    assert document["guest_image"]["path"] == str(image)
    assert (compared["fits"], compared["applies"]) == (True, "yes")
    assert {one["inf"]: (one["installed"], one["brought"]) for one in compared["drivers"]} == {
        "wvmbus.inf": ("6.3.9600.18692", NEWER),
        "wstorvsc.inf": ("6.3.9600.18692", NEWER),
    }
    text = run("cab", "show", str(path), "--image", str(image)).text
    assert "It fits" in text
    assert "6.3.9600.18692" in text
    older = write_package(tmp_path / "older.cab", "6.3.9600.16384")
    assert "It does not fit (current)" in run("cab", "show", str(older), "--image", str(image)).text
    assert answer("show", path)["compared"] is None


def test_what_is_no_package_is_one_clear_error(tmp_path):
    path = tmp_path / "plain.cab"
    path.write_bytes(build_cab([CabFolder([CabFile("readme.txt", b"hello")])]))
    assert run("cab", "show", str(path), "--json").json["error"]["code"] == "not-a-package"
    path.write_bytes(b"MZ not a cabinet")
    for command in ("show", "verify"):
        assert run("cab", command, str(path)).code == 3
