from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from tests.cli.harness import run
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms
from vhdtool.disk.chain import open_disk


@pytest.fixture(scope="module")
def demo() -> str:
    return str(fixture_file("demo.vhdx"))


def test_the_whole_document(demo):
    result = run("inspect", demo, "--json")
    assert (result.code, result.stderr) == (0, "")
    assert_conforms(result.json, "inspect")
    image, volumes, guests = result.json["image"], result.json["volumes"], result.json["guests"]
    assert (image["format"], image["type"], image["log"], image["virtual_size"]) == (
        "vhdx",
        "dynamic",
        "replayed",
        16 << 20,
    )
    assert [problem["code"] for problem in image["problems"]] == ["vhdx-log-pending"]
    assert [volume["role"] for volume in volumes] == ["esp", "msr", "os"]
    assert volumes[2]["label"] == "Windows"
    assert len(guests) == 1
    assert guests[0]["os"]["version"] == "6.3.9600"
    assert guests[0]["integration_services"]["version"] == "6.3.9600.18692"
    assert {hive["path"]: hive["state"] for hive in guests[0]["hives"]}[
        "/Windows/System32/config/SYSTEM"
    ] == "recovered"
    assert result.stdout.count(b"\n") == 1


def test_text_for_people(demo):
    text = run("inspect", demo).text
    for word in ("Windows Server 2012 R2", "6.3.9600.18692", "log replayed in memory", "vmickvpexchange", "overridden"):
        assert word in text


def test_drawn_for_a_terminal(demo):
    result = run("inspect", demo, terminal=True)
    assert result.code == 0
    assert "\x1b[" in result.text
    assert "6.3.9600.18692" in result.text


def test_terminal_json_is_indented_and_the_same(demo):
    drawn = run("inspect", demo, "--json", terminal=True)
    assert drawn.stdout.count(b"\n") > 50
    assert drawn.json == run("inspect", demo, "--json").json


def test_several_images_are_lines_in_the_order_given(demo, tmp_path):
    (tmp_path / "text.vhdx").write_bytes(b"no disk at all")
    other = str(fixture_file("windows-guest.vhd"))
    result = run("inspect", demo, str(tmp_path / "text.vhdx"), other, "--json")
    assert result.code == 5
    lines = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    for line in lines:
        assert_conforms(line, "inspect")
    assert [line["image"]["path"] for line in lines] == [demo, str(tmp_path / "text.vhdx"), other]
    assert set(lines[1]) == {"schema", "image", "error"}
    assert f"error[{lines[1]['error']['code']}]" in result.stderr
    assert run("inspect", demo, other).code == 0


def test_a_fault_of_ours_in_one_image_does_not_cost_the_others(demo, monkeypatch):
    real = open_disk

    def faulty(path, **named):
        if path == "broken":
            raise IndexError("oh")
        return real(path, **named)

    monkeypatch.setattr("vhdtool.image.open_disk", faulty)
    result = run("inspect", "broken", demo, "--json")
    assert result.code == 70
    lines = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert lines[0]["error"]["code"] == "internal-fault"
    assert lines[1]["guests"]


@pytest.mark.parametrize("option", [("--parent", "x"), ("--evidence-dir", "x")])
def test_options_that_belong_to_one_image(demo, option):
    assert run("inspect", demo, demo, *option).code == 2


def test_hash_is_that_of_every_file_of_the_chain():
    parent = fixture_file("windows-guest.vhdx")
    child = fixture_file("windows-guest-child.vhdx")
    image = run("inspect", str(child), "--hash", "--json").json["image"]
    assert image["sha256"] == hashlib.sha256(child.read_bytes()).hexdigest()
    assert image["parents_sha256"] == [hashlib.sha256(parent.read_bytes()).hexdigest()]
    assert "sha256" not in run("inspect", str(child), "--json").json["image"]
    assert image["sha256"] in run("inspect", str(child), "--hash").text


def test_encrypted_volume_is_a_mark_and_not_a_failure(tmp_path):
    image = mbr_disk(tmp_path / "encrypted.raw", [bitlocker_volume()])
    result = run("inspect", str(image), "--json")
    assert result.code == 0
    assert_conforms(result.json, "inspect")
    assert result.json["volumes"][0]["state"]["encrypted"] is True
    assert result.json["volumes"][0]["encryption"] == "bitlocker"
    assert result.json["guests"] == []
    assert "volume-encrypted" in {finding["code"] for finding in result.json["findings"]}
    assert "bitlocker" in run("inspect", str(image)).text


def test_no_guest_is_a_finding(tmp_path):
    image = mbr_disk(tmp_path / "empty.raw", [bytes(1 << 20)])
    result = run("inspect", str(image), "--json")
    assert (result.code, result.json["guests"]) == (0, [])
    assert [finding["code"] for finding in result.json["findings"]] == ["no-guest"]


def test_two_guests(tmp_path):
    image = mbr_disk(tmp_path / "two.raw", [windows_volume(), windows_volume()])
    document = run("inspect", str(image), "--json").json
    assert [guest["volume"] for guest in document["guests"]] == [0, 1]
    assert "--guest 1" in run("inspect", str(image)).text


def test_a_damaged_volume_beside_a_guest_is_a_finding(tmp_path):
    broken = bytearray(windows_volume())
    broken[0x4000 : len(broken)] = bytes(len(broken) - 0x4000)
    image = mbr_disk(tmp_path / "half.raw", [bytes(broken), windows_volume()])
    result = run("inspect", str(image), "--json")
    assert (result.code, len(result.json["guests"])) == (0, 1)
    assert "volume-unreadable" in {finding["code"] for finding in result.json["findings"]}
    alone = mbr_disk(tmp_path / "alone.raw", [bytes(broken)])
    assert run("inspect", str(alone), "--json").json["guests"] == []
    assert run("version", str(alone)).code == 3


def test_evidence(demo, tmp_path):
    folder = tmp_path / "case"
    result = run("inspect", demo, "--evidence-dir", str(folder), "--hash", "--json")
    assert result.code == 0
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    assert_conforms(manifest, "evidence")
    files = {file["path"]: file for file in manifest["files"]}
    config = "/Windows/System32/config"
    assert {f"{config}/SYSTEM", f"{config}/SYSTEM.LOG1", f"{config}/SOFTWARE"} <= set(files)
    assert manifest["image"] == result.json["image"]
    assert manifest["image"]["sha256"] == hashlib.sha256(Path(demo).read_bytes()).hexdigest()
    with open_disk(demo) as disk:
        for file in files.values():
            saved = (folder / file["saved_as"]).read_bytes()
            assert (len(saved), hashlib.sha256(saved).hexdigest()) == (file["size"], file["sha256"])
            for extent in file["extents"]:
                assert extent["disk_offset"] == file["volume_offset"] + extent["volume_offset"]
                start = extent["file_offset"]
                piece = saved[start : start + extent["length"]]
                assert disk.read_at(extent["disk_offset"], len(piece)) == piece
    saved_files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert saved_files == {"manifest.json", *(file["saved_as"] for file in files.values())}


def test_every_file_that_facts_name_is_among_the_evidence(demo, tmp_path):
    folder = tmp_path / "case"
    document = run("inspect", demo, "--evidence-dir", str(folder), "--json").json
    saved = {file["path"] for file in msgspec.json.decode((folder / "manifest.json").read_bytes())["files"]}
    assert {hive["path"] for hive in document["guests"][0]["hives"]} <= saved
    hives = {path.rpartition("/")[2] for path in saved}
    for evidence in document["guests"][0]["integration_services"]["evidence"]:
        location = evidence["location"]  # a file, or a hive and a key in it
        assert location in saved or location.split("\\")[0] in hives


def test_a_file_too_large_to_save_is_told_by_its_place(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("vhdtool.report.evidence.LARGEST_SAVED", 4096)
    assert run("inspect", demo, "--evidence-dir", str(tmp_path / "case")).code == 0
    manifest = msgspec.json.decode((tmp_path / "case" / "manifest.json").read_bytes())
    assert_conforms(manifest, "evidence")
    system = next(file for file in manifest["files"] if file["path"].endswith("/SYSTEM"))
    assert (system["saved_as"], system["sha256"], system["error"]["code"]) == (None, None, "too-large")
    assert system["extents"]


def test_evidence_of_two_runs_is_not_mixed(demo, tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "note.txt").write_bytes(b"mine")
    result = run("inspect", demo, "--evidence-dir", str(tmp_path / "case"))
    assert (result.code, result.stdout) == (2, b"")
    assert [path.name for path in (tmp_path / "case").iterdir()] == ["note.txt"]


def test_a_read_only_folder_is_enough(demo, tmp_path):
    folder = tmp_path / "readonly"
    folder.mkdir()
    image = folder / "demo.vhdx"
    image.write_bytes(Path(demo).read_bytes())
    before = (hashlib.sha256(image.read_bytes()).hexdigest(), image.stat().st_mtime_ns)
    image.chmod(stat.S_IRUSR)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        for arguments in (
            ("inspect", "--hash", "--evidence-dir", str(tmp_path / "case")),
            ("version",),
            ("services", "list"),
            ("disk", "info"),
            ("disk", "verify"),
            ("disk", "map"),
        ):
            assert run(*arguments, str(image)).code in {0, 1}
        assert os.listdir(folder) == ["demo.vhdx"]  # noqa: PTH208  # names, as the folder has them
    finally:
        folder.chmod(stat.S_IRWXU)
    assert (hashlib.sha256(image.read_bytes()).hexdigest(), image.stat().st_mtime_ns) == before


def test_a_name_that_is_no_text(demo, tmp_path):
    raw = os.fsencode(tmp_path) + b"/disk-\xff.vhdx"
    name = os.fsdecode(raw)
    Path(name).write_bytes(Path(demo).read_bytes())
    document = run("inspect", name, "--json").json
    assert_conforms(document, "inspect")
    assert document["image"]["path"].endswith("disk-\\udcff.vhdx")
    assert base64.b64decode(document["image"]["path_b64"]) == raw
    assert "disk-\\udcff.vhdx" in run("inspect", name).text
    error = run("inspect", name + "x", "--json")
    assert (error.code, "path_b64" in error.json["image"]) == (3, True)
