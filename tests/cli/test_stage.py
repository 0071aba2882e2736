"""``vhdtool stage``, ``apply`` and ``unstage`` on the fixtures' guest: plans, refusals, and the way back."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import pytest

from scripts.fixtures.signed_package import package_files as small_package
from scripts.fixtures.signed_package import signed_package
from scripts.fixtures.stored_cabinet import stored_cabinet
from tests.cli.changing import changed, digests, image_in
from tests.cli.harness import run
from tests.cli.images import bitlocker_volume, mbr_disk
from tests.cli.staging_guests import (
    CURRENT,
    GENERALIZED,
    IN_PLACE,
    OWN_SCRIPT,
    SCRIPT,
    SERVICING,
    SETUP,
    STATE,
    Edit,
    assert_refused,
    cabs_of,
    guest,
    keys,
    put,
    read,
    staged,
    tree,
)
from tests.cli.test_refusals import STATES as VOLUME_STATES
from tests.cli.test_refusals import image_with
from tests.staging.packages import package_files, parents, write_package, write_root
from tests.tools import require_ntfs_writer
from vhdtool.disk.chain import open_disk


@pytest.fixture(autouse=True)
def _writer() -> None:
    require_ntfs_writer()


@pytest.fixture
def cab(tmp_path: Path) -> Path:
    (tmp_path / "cabs").mkdir(exist_ok=True)
    return write_package(tmp_path / "cabs" / "new.cab")


@pytest.fixture
def trust(tmp_path: Path) -> list[str]:
    (tmp_path / "cabs").mkdir(exist_ok=True)
    return ["--trust-root", str(write_root(tmp_path / "cabs"))]


def test_without_a_target_the_plan_is_shown_and_nothing_is_written(tmp_path, cab, trust):
    image = guest(tmp_path)
    before = digests(image.parent)
    document = staged(image, "--cab", cab, *trust)
    assert (document["would_change"], document["changed"], document["receipt"]) == (True, False, None)
    assert document["ways"] == ["service"]
    assert document["id"].startswith("kb9999999-")
    assert document["guest_command"] in {row["after"]["data"] for row in document["registry"] if row["after"]}
    assert {check["outcome"] for check in document["checks"]} == {"ok"}
    package = document["packages"][0]
    assert (package["trust"], package["applies"], package["current"]) == ("trusted", "yes", False)
    assert package["staged"]
    assert document["notices"]
    assert digests(image.parent) == before
    text = run("stage", str(image), "--cab", str(cab), *trust).text
    assert document["guest_command"] in text
    assert all(row["path"] in text for row in document["files"])


@pytest.mark.parametrize("target", ["child", "output", "in-place"])
def test_what_is_staged_is_there_and_unstage_takes_all_of_it_out(tmp_path, cab, trust, target):
    image = guest(tmp_path)
    files, registry = tree(image), keys(image)
    new = tmp_path / "images" / "new.vhdx"
    words = {"child": ["--child", new], "output": ["--output", new], "in-place": IN_PLACE}[target]
    document = staged(image, "--cab", cab, *trust, *words)
    assert document["changed"]
    written = Path(document["receipt"]["path"])
    folder = f"/Windows/Setup/vhdtool/{document['id']}"
    assert read(written, f"{folder}/1-new.cab") == cab.read_bytes()
    added = tree(written).keys() - files.keys()
    assert added == {row["path"] for row in document["files"]}
    service = keys(written).keys() - registry.keys()
    assert service == {rf"SYSTEM\ControlSet001\Services\vhdtool-{document['id']}"}
    again = staged(written, "--cab", cab, *trust, *IN_PLACE)
    assert (again["would_change"], again["changed"], again["id"]) == (False, False, document["id"])
    changed("unstage", written, document["id"], *IN_PLACE)
    assert tree(written) == files
    assert keys(written) == registry
    assert run("outcome", str(written), "--json").json["stages"] == []
    assert run("unstage", str(written), document["id"]).code == 1


def test_the_record_tells_what_was_put_where(tmp_path, cab, trust):
    image = guest(tmp_path)
    document = staged(image, "--cab", cab, *trust, *IN_PLACE)
    record = json.loads(read(image, f"/Windows/Setup/vhdtool/{document['id']}/stage.json"))
    assert record["id"] == document["id"]
    assert {f"/Windows/{one['path']}": one["sha256"] for one in record["files"]} == {
        row["path"]: row["sha256"]
        for row in document["files"]
        if row["action"] == "put" and not row["path"].endswith("stage.json")
    }
    for one in record["files"]:
        assert hashlib.sha256(read(image, f"/Windows/{one['path']}")).hexdigest() == one["sha256"]
    values = {one["name"]: bytes.fromhex(one["data"]) for one in record["registry"]}
    assert values["Start"] == struct.pack("<I", 2)
    assert values["ImagePath"].decode("utf-16-le").rstrip("\0") == document["guest_command"] == record["command"]
    with open_disk(image) as disk:
        assert record["disk"] != disk.layers[0].info.identity, "in place the disk has a new identity"


def test_a_newer_version_replaces_one_that_has_not_run_and_an_older_is_refused(tmp_path, cab, trust):
    image = guest(tmp_path)
    files, registry = tree(image), keys(image)
    first = staged(image, "--cab", cab, *trust, *IN_PLACE)
    newer = write_package(tmp_path / "cabs" / "newer.cab", "6.3.9600.20001")
    second = staged(image, "--cab", newer, *trust, *IN_PLACE)
    assert second["replaces"] == [first["id"]]
    assert [one["id"] for one in run("outcome", str(image), "--json").json["stages"]] == [second["id"]]
    before = digests(image.parent)
    assert_refused("newer-staged", image, "--cab", cab, *trust, *IN_PLACE)
    assert digests(image.parent) == before
    changed("unstage", image, second["id"], *IN_PLACE)
    assert tree(image) == files
    assert keys(image) == registry


def test_two_packages_in_one_stage_and_two_stages_side_by_side(tmp_path, cab, trust):
    image = guest(tmp_path)
    files, registry = tree(image), keys(image)
    second = write_package(tmp_path / "cabs" / "second.cab", name="Package_for_KB1", kb="KB1")
    third = write_package(tmp_path / "cabs" / "third.cab", name="Package_for_KB2", kb="KB2")
    both = staged(image, "--cab", cab, "--cab", second, *trust, *IN_PLACE)
    assert cabs_of(both) == ["1-new.cab", "2-second.cab"]
    alone = staged(image, "--cab", third, *trust, *IN_PLACE)
    assert len(run("outcome", str(image), "--json").json["stages"]) == 2
    newer = write_package(tmp_path / "cabs" / "newer.cab", "6.3.9600.20001")
    assert_refused("stage-overlaps", image, "--cab", newer, *trust, *IN_PLACE)
    changed("unstage", image, both["id"], *IN_PLACE)
    assert [one["id"] for one in run("outcome", str(image), "--json").json["stages"]] == [alone["id"]]
    changed("unstage", image, alone["id"], *IN_PLACE)
    assert tree(image) == files
    assert keys(image) == registry


@pytest.mark.parametrize("script", [None, OWN_SCRIPT, b"", b"@echo off\n", "rem Grüße\r\n".encode("cp1252")])
def test_a_generalized_image_chains_setupcomplete_and_gets_its_own_back(tmp_path, cab, trust, script):
    image = guest(tmp_path, *GENERALIZED)
    if script is not None:
        put(image, SCRIPT, script)
    files, registry = tree(image), keys(image)
    document = staged(image, "--cab", cab, *trust, *IN_PLACE)
    assert document["ways"] == ["setupcomplete", "service"]
    chained = read(image, SCRIPT)
    assert document["id"].encode() in chained
    assert (script or b"") in chained
    again = staged(image, "--cab", cab, *trust, *IN_PLACE)
    assert not again["would_change"]
    newer = write_package(tmp_path / "cabs" / "newer.cab", "6.3.9600.20001")
    second = staged(image, "--cab", newer, *trust, *IN_PLACE)
    assert document["id"].encode() not in read(image, SCRIPT)
    changed("unstage", image, second["id"], *IN_PLACE)
    assert tree(image) == files
    assert keys(image) == registry


def test_the_way_follows_the_key_and_the_user(tmp_path, cab, trust):
    client = ("add", CURRENT, "/v", "InstallationType", "/d", "Client")
    oem = ("add", CURRENT, "/v", "ProductId", "/d", "00371-OEM-8992671-00008")
    image = guest(tmp_path, *GENERALIZED, client)
    assert staged(image, "--cab", cab, *trust)["ways"] == ["setupcomplete", "service"]
    assert staged(image, "--cab", cab, *trust, "--via", "service")["ways"] == ["service"]
    changed("reg", *oem[:1], image, *oem[1:], *IN_PLACE)
    document = staged(image, "--cab", cab, *trust)
    assert document["ways"] == ["service"]
    assert "OEM" in document["way_reason"]
    assert_refused("setupcomplete-never-runs", image, "--cab", cab, *trust, "--via", "setupcomplete")
    changed("reg", "add", image, CURRENT, "/v", "EditionID", "/d", "Enterprise", *IN_PLACE)
    assert staged(image, "--cab", cab, *trust)["ways"] == ["setupcomplete", "service"]


def image_state(name: str) -> Edit:
    return ("add", STATE, "/v", "ImageState", "/d", name)


def number(key: str, name: str, value: int) -> Edit:
    return ("add", key, "/v", name, "/t", "REG_DWORD", "/d", str(value))


STATES: dict[str, tuple[tuple[Edit, ...], str]] = {
    "Windows XP": ((("add", CURRENT, "/v", "CurrentVersion", "/d", "5.2"),), "no-component-servicing"),
    "no Windows version": ((("delete", CURRENT, "/v", "CurrentVersion"),), "windows-unknown"),
    "specialize": ((image_state("IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE"),), "setup-unfinished"),
    "undeployable": ((image_state("IMAGE_STATE_UNDEPLOYABLE"),), "image-undeployable"),
    "setup under way": ((number(SETUP, "SystemSetupInProgress", 1),), "setup-unfinished"),
    "oobe under way": ((number(SETUP, "SetupType", 2), number(SETUP, "OOBEInProgress", 1)), "setup-unfinished"),
    "no state at all": (
        (("rm", "/Windows/Setup/State/State.ini"), ("delete", STATE), ("delete", SETUP, "/v", "SystemSetupInProgress"),
         ("delete", SETUP, "/v", "SetupType")),
        "install-state-unknown",
    ),
    "restart pending": ((("add", rf"{SERVICING}\RebootPending"),), "servicing-pending"),
    "packages pending": ((("add", rf"{SERVICING}\PackagesPending"),), "servicing-pending"),
    "sessions pending": ((("add", rf"{SERVICING}\SessionsPending\1"),), "servicing-pending"),
    "Windows 10": (
        (number(CURRENT, "CurrentMajorVersionNumber", 10), number(CURRENT, "CurrentMinorVersionNumber", 0),
         ("add", CURRENT, "/v", "CurrentBuildNumber", "/d", "19045")),
        "not-applicable",
    ),
    "x86": (
        (("add", r"HKLM\SYSTEM\ControlSet001\Control\Session Manager\Environment", "/v", "PROCESSOR_ARCHITECTURE",
          "/d", "x86"),),
        "not-applicable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_images_in_other_states_are_refused_and_untouched(tmp_path, cab, trust, name):
    edits, code = STATES[name]
    image = guest(tmp_path, *edits)
    before = digests(image.parent)
    for words in ([], IN_PLACE, ["--child", tmp_path / "images" / "new.vhdx"]):
        assert_refused(code, image, "--cab", cab, *trust, *words)
    assert digests(image.parent) == before


def test_pending_xml_is_pending_work(tmp_path, cab, trust):
    image = guest(tmp_path)
    put(image, "/Windows/WinSxS/pending.xml", b"<x/>")
    assert_refused("servicing-pending", image, "--cab", cab, *trust)


def test_a_hibernated_guest_is_refused(tmp_path, cab, trust):
    image = guest(tmp_path)
    put(image, "/hiberfil.sys", b"hibr".ljust(4096, b"\0"))
    before = digests(image.parent)
    assert_refused("hibernated", image, "--cab", cab, *trust, "--child", tmp_path / "images" / "new.vhdx")
    assert digests(image.parent) == before


@pytest.mark.parametrize("name", VOLUME_STATES)
def test_volumes_and_hives_that_must_not_be_written_are_refused(tmp_path, cab, trust, name):
    change_volume, code = VOLUME_STATES[name]
    (tmp_path / "images").mkdir()
    image = image_with(tmp_path / "images", change_volume)
    before = digests(image.parent)
    assert_refused(code, image, "--cab", cab, *trust)
    assert_refused(code, image, "--cab", cab, *trust, "--child", tmp_path / "images" / "new.vhdx")
    assert digests(image.parent) == before


def test_an_encrypted_guest_is_refused(tmp_path, cab, trust):
    image = mbr_disk(tmp_path / "locked.raw", [bitlocker_volume()])
    assert_refused("encrypted", image, "--cab", cab, *trust)


def test_a_parent_is_not_changed_in_place(tmp_path, cab, trust):
    (tmp_path / "images").mkdir()
    image_in(tmp_path / "images", "windows-guest-child.vhdx")
    parent = tmp_path / "images" / "windows-guest.vhdx"
    before = digests(parent.parent)
    result = run("stage", str(parent), "--cab", str(cab), *trust, "--in-place", "--json")
    assert (result.code, result.json["error"]["code"]) == (4, "is-a-parent")
    assert digests(parent.parent) == before


def test_all_obstacles_are_told_the_first_as_the_error(tmp_path, cab, trust):
    image = guest(tmp_path, *STATES["restart pending"][0], *STATES["specialize"][0])
    error = assert_refused("setup-unfinished", image, "--cab", cab, *trust)
    assert "servicing-pending" in error["message"]


def test_what_is_only_odd_warns(tmp_path, cab, trust):
    image = guest(
        tmp_path,
        image_state("IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT"),
        number(r"HKLM\SYSTEM\ControlSet001\Control\Session Manager\Power", "HiberbootEnabled", 1),
        number(r"HKLM\SYSTEM\ControlSet001\Services\vmickvpexchange", "Start", 4),
        ("add", r"HKLM\SYSTEM\ControlSet001\Control\Session Manager", "/v", "PendingFileRenameOperations", "/t",
         "REG_MULTI_SZ", "/d", r"\??\C:\old"),
    )  # fmt: skip
    document = staged(image, "--cab", cab, *trust)
    warned = {check["name"]: check["hint"] for check in document["checks"] if check["outcome"] == "warn"}
    assert warned.keys() == {"install-state", "fast-startup", "pending", "data-exchange"}
    assert all(warned.values())
    assert document["ways"] == ["service"]


def test_who_vouches_for_a_package(tmp_path, cab, trust):
    image = guest(tmp_path)
    error = assert_refused("package-untrusted", image, "--cab", cab)
    assert "--trust-root" in error["hint"]
    assert "--allow-unsigned" in error["hint"]
    document = staged(image, "--cab", cab, "--allow-unsigned")
    assert document["packages"][0]["trust"] == "untrusted"
    unsigned = tmp_path / "cabs" / "unsigned.cab"
    unsigned.write_bytes(stored_cabinet({name: data for name, data in package_files().items() if name != "update.cat"}))
    assert_refused("package-untrusted", image, "--cab", unsigned, *trust)
    assert staged(image, "--cab", unsigned, *trust, "--allow-unsigned")["would_change"]


@pytest.mark.parametrize("part", ["update.mum", ".manifest", ".inf", "update.cat", "signature"])
def test_a_changed_byte_anywhere_is_refused_whatever_is_allowed(tmp_path, cab, trust, part):
    image = guest(tmp_path)
    files = package_files()
    if part == "signature":
        content = bytearray(cab.read_bytes())
        content[-300] ^= 1
    else:
        name = next(name for name in files if name.endswith(part))
        content = bytearray(signed_package(files))
        place = content.index(files[name]) + len(files[name]) // 2
        content[place] ^= 1
    tampered = tmp_path / "cabs" / "tampered.cab"
    tampered.write_bytes(content)
    result = run("stage", str(image), "--cab", str(tampered), *trust, "--allow-unsigned", "--json")
    assert result.code in {3, 4}, result.text
    assert result.json["error"]["code"] in {"package-tampered", "cabinet-checksum", "xml-damaged"}, result.json


def test_a_payload_changed_before_the_cabinet_was_built_is_tampering(tmp_path, trust):
    image = guest(tmp_path)
    files = package_files()
    name = next(name for name in files if name.endswith("wvmbus.inf"))
    files[name] = files[name].replace("Somebody".encode("utf-16-le"), "Somebedy".encode("utf-16-le"))
    for content, words in ((stored_cabinet(files), ["--allow-unsigned"]), (signed_package(files), trust)):
        tampered = tmp_path / "cabs" / "tampered.cab"
        tampered.write_bytes(content)
        assert_refused("package-tampered", image, "--cab", tampered, *words)


def test_packages_for_others_and_for_nobody(tmp_path, cab, trust):
    image = guest(tmp_path)
    cabs = tmp_path / "cabs"
    other = write_package(cabs / "x86.cab", architecture="x86")
    assert "x86" in assert_refused("not-applicable", image, "--cab", other, *trust)["message"]
    other = write_package(cabs / "other.cab", parent=parents(("Somebody-Elses-Package", "6.3.0.0")))
    assert "Somebody-Elses-Package" in assert_refused("not-applicable", image, "--cab", other, *trust)["message"]
    unknown = cabs / "unknown.cab"
    unknown.write_bytes(signed_package(small_package()))
    document = staged(image, "--cab", unknown, *trust)
    assert document["packages"][0]["applies"] == "unknown"
    assert "warn" in {check["outcome"] for check in document["checks"] if check["name"] == "applicability"}
    result = run("stage", str(image), "--cab", str(cab), "--cab", str(shutil.copy(cab, cabs / "copy.cab")), *trust)
    assert result.code == 2
    assert "same-package-twice" in result.stderr


def test_what_the_guest_has_is_left_out(tmp_path, cab, trust):
    image = guest(tmp_path)
    older = write_package(tmp_path / "cabs" / "older.cab", "6.3.9600.18692", name="Package_for_KB1", kb="KB1")
    before = digests(image.parent)
    document = staged(image, "--cab", older, *trust, *IN_PLACE)
    assert (document["id"], document["would_change"], document["packages"][0]["staged"]) == (None, False, False)
    assert digests(image.parent) == before
    document = staged(image, "--cab", older, "--cab", cab, *trust)
    assert [one["staged"] for one in document["packages"]] == [False, True]
    assert cabs_of(document) == ["1-new.cab"]


def test_windows_7_needs_sha2(tmp_path, cab, trust):
    windows_7 = (
        ("add", CURRENT, "/v", "CurrentVersion", "/d", "6.1"),
        ("add", CURRENT, "/v", "CurrentBuildNumber", "/d", "7601"),
    )
    image = guest(tmp_path, *windows_7)
    assert "KB4474419" in assert_refused("sha2-missing", image, "--cab", cab, *trust)["message"]
    ready = rf"{SERVICING}\Packages\Package_for_KB4474419~31bf3856ad364e35~amd64~~6.1.3.2"
    changed("reg", "add", image, ready, "/v", "CurrentState", "/t", "REG_DWORD", "/d", "112", *IN_PLACE)
    assert staged(image, "--cab", cab, *trust)["would_change"]


def test_windows_vista_takes_integration_packages_alone(tmp_path, trust):
    image = guest(
        tmp_path,
        ("add", CURRENT, "/v", "CurrentVersion", "/d", "6.0"),
        ("add", CURRENT, "/v", "CurrentBuildNumber", "/d", "6002"),
        ("add", rf"{SERVICING}\Packages\Package_for_KB4474419~31bf3856ad364e35~amd64~~6.0.3.2", "/v", "CurrentState",
         "/t", "REG_DWORD", "/d", "112"),
    )  # fmt: skip
    generic = write_package(tmp_path / "cabs" / "generic.cab", name="Package_for_KB1")
    assert_refused("needs-dism", image, "--cab", generic, *trust)
    own = write_package(tmp_path / "cabs" / "own.cab")
    assert staged(image, "--cab", own, *trust)["would_change"]


def test_a_service_of_that_name_that_is_not_ours_is_left_alone(tmp_path, cab, trust):
    image = guest(tmp_path)
    name = staged(image, "--cab", cab, *trust)["id"]
    service = rf"HKLM\SYSTEM\ControlSet001\Services\vhdtool-{name}"
    changed("reg", "add", image, service, "/v", "ImagePath", "/d", "other.exe", *IN_PLACE)
    assert_refused("service-name-taken", image, "--cab", cab, *trust)


def test_a_damaged_stage_is_mended_by_staging_again(tmp_path, cab, trust):
    image = guest(tmp_path)
    document = staged(image, "--cab", cab, *trust, *IN_PLACE)
    put(image, f"/Windows/Setup/vhdtool/{document['id']}/1-new.cab", b"rotten")
    again = staged(image, "--cab", cab, *trust, *IN_PLACE)
    assert [row["path"].rpartition("/")[2] for row in again["files"] if row["changes"]] == ["1-new.cab"]
    assert read(image, f"/Windows/Setup/vhdtool/{document['id']}/1-new.cab") == cab.read_bytes()


@pytest.mark.parametrize("record", [None, b"", b"{}"])
def test_unstage_goes_by_what_is_there_and_takes_what_the_runner_left(tmp_path, cab, trust, record):
    image = guest(tmp_path, *GENERALIZED)
    files, registry = tree(image), keys(image)
    stage_id = staged(image, "--cab", cab, *trust, *IN_PLACE)["id"]
    folder = f"/Windows/Setup/vhdtool/{stage_id}"
    for name in ("dism.log", "lock/owner"):
        put(image, f"{folder}/{name}", b"left by the runner")
    if record is not None:
        put(image, f"{folder}/stage.json", record)
    changed("unstage", image, stage_id, *IN_PLACE)
    left = tree(image).keys() - files.keys()
    assert left <= ({"/Windows/Setup/Scripts"} if record is not None else set()), (
        "what no record told of may stay empty"
    )
    assert keys(image) == registry
