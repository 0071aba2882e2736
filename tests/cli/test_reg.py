from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.harness import run
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms

SELECT = r"HKLM\SYSTEM\Select"
KVP = r"HKLM\SYSTEM\CurrentControlSet\Services\vmickvpexchange"
AUTO = r"HKLM\Software\Microsoft\Virtual Machine\Auto"


@pytest.fixture(scope="module")
def demo() -> str:
    return str(fixture_file("demo.vhdx"))


@pytest.fixture
def hive(demo: str, tmp_path: Path) -> Path:
    """The demonstration's SYSTEM hive as a file, with its log beside it."""
    for name in ("SYSTEM", "SYSTEM.LOG1"):
        assert run("extract", demo, f"/Windows/System32/config/{name}", str(tmp_path)).code == 0
    return tmp_path / "SYSTEM"


@pytest.mark.parametrize("spelling", [("/v", "Current"), ("/V", "current"), ("--value", "CURRENT")])
def test_the_layout_of_reg_exe(demo, spelling):
    result = run("reg", "query", demo, SELECT, *spelling)
    assert result.code == 0
    assert result.text == "\nHKEY_LOCAL_MACHINE\\SYSTEM\\Select\n    Current    REG_DWORD    0x1\n\n"


def test_current_control_set_is_followed_and_the_log_applied(demo):
    result = run("reg", "query", demo, KVP, "/v", "Start")
    assert result.text == (
        "\nHKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\vmickvpexchange\n    Start    REG_DWORD    0x4\n\n"
    )
    assert "note: " in result.stderr
    assert "SYSTEM.LOG1" in result.stderr


@pytest.mark.parametrize("key", [KVP.lower(), KVP.replace("HKLM", "HKEY_LOCAL_MACHINE"), KVP + "\\"])
def test_spellings_of_the_key(demo, key):
    assert "0x4" in run("reg", "query", demo, key, "/v", "Start").text


def test_subkeys_are_listed_and_with_s_gone_into(demo):
    one = run("reg", "query", demo, r"HKLM\SYSTEM\CurrentControlSet\Services\storvsc").text
    assert "\nHKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\storvsc\\StartOverride\n" in one
    assert "    0    REG_DWORD    0x3" not in one
    deep = run("reg", "query", demo, r"HKLM\SYSTEM\CurrentControlSet\Services\storvsc", "/s").text
    assert "storvsc\\StartOverride\n    0    REG_DWORD    0x3\n" in deep


def test_recursive_with_a_value_shows_only_keys_that_have_it(demo):
    document = run("reg", "query", demo, r"HKLM\SYSTEM\CurrentControlSet\Services", "/s", "/v", "Start", "--json").json
    assert_conforms(document, "reg-query")
    assert len(document["keys"]) > 7
    assert all([value["name"] for value in key["values"]] == ["Start"] for key in document["keys"])
    assert run("reg", "query", demo, SELECT, "/s", "/v", "nonsense").code == 1


def test_json_says_which_hive_answered(demo):
    document = run("reg", "query", demo, KVP, "--json").json
    assert_conforms(document, "reg-query")
    assert document["hive"] == {
        "path": "/Windows/System32/config/SYSTEM",
        "state": "recovered",
        "logs": ["SYSTEM.LOG1"],
    }
    key = document["keys"][0]
    assert key["hive_path"] == r"ControlSet001\Services\vmickvpexchange"
    start = next(value for value in key["values"] if value["name"] == "Start")
    assert (start["type"], start["data"], start["size"]) == ("REG_DWORD", 4, 4)


def test_the_documents_own_question_ends_1_with_the_way_out(demo):
    result = run("reg", "query", demo, AUTO, "/v", "IntegrationServicesVersion", "--json")
    assert result.code == 1
    assert_conforms(result.json, "reg-query")
    assert result.json["error"]["code"] == "no-such-key"
    assert "vhdtool version" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ((r"HKLM\SYSTEM\Nonsense",), 1, "no-such-key"),
        ((SELECT, "/v", "nonsense"), 1, "no-such-value"),
        ((SELECT, "/ve"), 1, "no-such-value"),
        ((r"HKCU\Software",), 1, "key-not-stored"),
        (("Select",), 2, "key-path"),
        ((SELECT, "/v", "a", "/ve"), 2, "reg-query"),
        ((r"HKLM\SAM\SAM",), 1, "no-such-hive"),
    ],
)
def test_what_is_not_there(demo, arguments, code, error):
    result = run("reg", "query", demo, *arguments)
    assert (result.code, result.stdout) == (code, b"")
    assert f"error[{error}]" in result.stderr


@pytest.mark.parametrize(
    "key", [r"CurrentControlSet\Services\vmickvpexchange", r"ControlSet001\Services\vmickvpexchange", KVP]
)
def test_a_hive_file_with_its_log_beside_it(hive, key):
    result = run("reg", "query", str(hive), key, "/v", "Start", "--json")
    assert result.json["keys"][0]["values"][0]["data"] == 4
    assert result.json["hive"]["state"] == "recovered"
    assert "SYSTEM.LOG1" in result.stderr


def test_a_hive_file_whose_log_has_another_case(hive):
    (hive.parent / "SYSTEM.LOG1").rename(hive.parent / "system.log1")
    assert run("reg", "query", str(hive), KVP, "/v", "Start", "--json").json["keys"][0]["values"][0]["data"] == 4


def test_a_dirty_hive_without_its_log_is_said_to_be_so(hive):
    (hive.parent / "SYSTEM.LOG1").unlink()
    result = run("reg", "query", str(hive), KVP, "/v", "Start", "--json")
    assert result.json["hive"]["state"] == "dirty"
    assert "stale" in result.stderr


def test_root_of_a_hive_file(hive):
    document = run("reg", "query", str(hive), "\\", "--json").json
    assert_conforms(document, "reg-query")
    assert {"ControlSet001", "Select"} <= set(document["keys"][0]["subkeys"])


def test_a_hive_file_is_no_image(hive):
    assert run("reg", "query", str(hive), "Select", "--guest", "0").code == 2
    assert run("inspect", str(hive)).code == 3


def test_an_image_in_a_folder_that_begins_like_an_option(demo, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    image = folder / "v"
    image.write_bytes(Path(demo).read_bytes())
    assert run("reg", "query", str(image), SELECT).code == 0
