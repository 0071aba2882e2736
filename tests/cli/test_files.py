from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.cli.harness import run
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms

CONFIG = "/Windows/System32/config"


@pytest.fixture(scope="module")
def guest() -> str:
    return str(fixture_file("windows-guest.vhdx"))


@pytest.mark.parametrize(
    "path", [CONFIG, "Windows\\System32\\config", r"C:\Windows\System32\config", "c:/windows/SYSTEM32/Config/"]
)
def test_ls_takes_paths_as_people_write_them(guest, path):
    document = run("ls", guest, path, "--json").json
    assert_conforms(document, "ls")
    assert {"SYSTEM", "SOFTWARE"} <= {entry["name"] for entry in document["entries"]}


def test_ls_of_a_file_and_of_the_root(guest):
    assert [entry["name"] for entry in run("ls", guest, f"{CONFIG}/system", "--json").json["entries"]] == ["SYSTEM"]
    assert "Windows" in run("ls", guest).text


def test_cat_and_extract_give_the_same_bytes(guest, tmp_path):
    content = run("cat", guest, f"{CONFIG}/SYSTEM").stdout
    assert content.startswith(b"regf")
    document = run("extract", guest, f"{CONFIG}/SYSTEM", str(tmp_path / "new"), "--json").json
    assert_conforms(document, "extract")
    assert (tmp_path / "new" / "SYSTEM").read_bytes() == content
    assert document["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_extract_of_a_directory(guest, tmp_path):
    result = run("extract", guest, "/Windows/System32", str(tmp_path), "--json")
    assert result.code == 0
    paths = {file["path"]: Path(file["saved_as"]) for file in result.json["files"]}
    assert paths[f"{CONFIG}/SYSTEM"] == tmp_path / "System32" / "config" / "SYSTEM"
    assert all(path.is_file() for path in paths.values())
    assert run("extract", guest, "/Windows/System32", str(tmp_path)).code == 4  # nothing is overwritten


@pytest.mark.parametrize("command", ["ls", "cat"])
def test_what_is_not_there_ends_1(guest, command):
    result = run(command, guest, "/Windows/nonsense")
    assert (result.code, result.stdout) == (1, b"")
    assert "error[no-such-file]" in result.stderr


def test_cat_of_a_directory_and_unknown_drives(guest):
    assert "error[is-a-directory]" in run("cat", guest, "/Windows").stderr
    assert run("ls", guest, "D:\\").code == 2
    assert run("ls", guest, "C:\\", "--volume", "2").code == 2
    assert run("ls", guest, "/", "--volume", "9").code == 2
    assert run("ls", guest, "/", "--volume", "2", "--guest", "0").code == 2


def test_volumes_by_number(guest):
    assert run("ls", guest, "/", "--volume", "2").code == 0


def test_an_image_without_windows_and_one_file_system(tmp_path):
    volume = windows_volume()
    image = mbr_disk(tmp_path / "data.raw", [volume.replace("config".encode("utf-16le"), "konfig".encode("utf-16le"))])
    assert run("version", str(image)).code == 3
    assert run("ls", str(image)).code == 0


def test_encrypted_volume(tmp_path):
    image = mbr_disk(tmp_path / "encrypted.raw", [bitlocker_volume()])
    assert run("ls", str(image)).code == 4
    assert run("ls", str(image), "--volume", "0").code == 4
