"""``vhdtool cab find``: which packages fit the fixtures' guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.harness import run
from tests.data_files import data_file
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms
from tests.staging.packages import NEWER, parents, write_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    below = tmp_path / "cabs" / "below"
    below.mkdir(parents=True)
    write_package(below / "fits.CAB")
    write_package(tmp_path / "cabs" / "wrong.cab", architecture="x86")
    write_package(tmp_path / "cabs" / "older.cab", "6.3.9600.16384")
    write_package(tmp_path / "cabs" / "other.cab", parent=parents(("Other", "6.3.0.0")))
    (tmp_path / "cabs" / "broken.msu").write_bytes(b"MSCF")
    (tmp_path / "cabs" / "readme.txt").write_bytes(b"no cabinet, and not looked at")
    return tmp_path / "cabs"


def test_the_one_that_fits_comes_first_with_what_it_would_change(folder):
    result = run("cab", "find", str(fixture_file("windows-guest.vhdx")), str(folder), "--json")
    assert result.code == 0, result.stderr
    assert_conforms(result.json, "cab-find")
    packages = result.json["packages"]
    assert [Path(one["path"]).name for one in packages if one["fits"]] == ["fits.CAB"]
    assert packages[0]["fits"]
    assert {one["inf"]: (one["installed"], one["brought"]) for one in packages[0]["drivers"]} == {
        "wvmbus.inf": ("6.3.9600.18692", NEWER),
        "wstorvsc.inf": ("6.3.9600.18692", NEWER),
    }
    rules = {Path(one["path"]).name: (one["applies"], one["rule"], one["current"]) for one in packages}
    assert rules["wrong.cab"][:2] == ("no", "architecture")
    assert rules["other.cab"][:2] == ("no", "parent")
    assert rules["older.cab"][2] is True
    assert [Path(one["path"]).name for one in result.json["skipped"]] == ["broken.msu"]
    text = run("cab", "find", str(fixture_file("windows-guest.vhdx")), str(folder)).text
    assert "1 of 4 packages fit" in text


def test_none_fits_ends_1(folder):
    image = str(fixture_file("windows-guest.vhdx"))
    assert run("cab", "find", image, str(folder / "other.cab")).code == 1
    missing = run("cab", "find", image, str(folder / "not-there"), "--json")
    assert (missing.code, missing.json["error"]["code"]) == (1, "no-such-place")


@pytest.mark.data
def test_delta_packages_are_named_and_passed_over():
    msu = data_file("cab/stdin82__htfx/Windows8.1-KB3024680-v2-x64.msu")
    result = run("cab", "find", str(fixture_file("windows-guest.vhdx")), str(msu), "--json")
    assert result.code == 1
    assert [one["code"] for one in result.json["skipped"]] == ["package-delta"]
