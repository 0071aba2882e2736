from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.changing import changed, digests, image_in
from tests.cli.harness import run

KEY = r"HKLM\SOFTWARE\Contoso\Rings"
REG_FILE = """Windows Registry Editor Version 5.00

[HKEY_LOCAL_MACHINE\\SOFTWARE\\Contoso\\Rings]
"Number"=dword:00000007
@="fast"
"Names"=hex(7):61,00,00,00,62,00,\\
  00,00,00,00

[HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\vmicvss]
"Start"=dword:00000004

[-HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\W32Time]
"""


@pytest.fixture
def image(tmp_path) -> Path:
    return image_in(tmp_path, "windows-guest.vhdx")


def value_in(image: Path, key: str, name: str) -> tuple[str, object]:
    result = run("reg", "query", str(image), key, "/v", name, "--json")
    assert result.code == 0, result.stderr
    (value,) = result.json["keys"][0]["values"]
    return value["type"], value["data"]


@pytest.mark.parametrize(
    ("arguments", "name", "stored"),
    [
        (["/v", "Number", "/t", "REG_DWORD", "/d", "0x10"], "Number", ("REG_DWORD", 16)),
        (["/v", "Big", "/t", "reg_qword", "/d", "18446744073709551615"], "Big", ("REG_QWORD", (1 << 64) - 1)),
        (["/v", "Text", "/d", "Grüße, приёмка"], "Text", ("REG_SZ", "Grüße, приёмка")),
        (["/ve", "/d", "default"], "", ("REG_SZ", "default")),
        (["/v", "Many", "/t", "REG_MULTI_SZ", "/d", r"one\0two"], "Many", ("REG_MULTI_SZ", ["one", "two"])),
        (["/v", "Path", "/t", "REG_EXPAND_SZ", "/d", "%SystemRoot%"], "Path", ("REG_EXPAND_SZ", "%SystemRoot%")),
        (["/v", "Raw", "/t", "REG_BINARY", "/d", "00ff10", "/f"], "Raw", ("REG_BINARY", "00FF10")),
        (["/v", "/d", "/t", "REG_SZ", "/d", "/v"], "/d", ("REG_SZ", "/v")),
    ],
)
def test_value_of_each_type_is_added(image, tmp_path, arguments, name, stored):
    child = tmp_path / "child.vhdx"
    document = changed("reg", "add", image, KEY, *arguments, "--child", child)
    assert document["changed"]
    assert value_in(child, KEY, name) == stored
    assert run("reg", "query", str(image), KEY).code == 1


def test_key_alone_is_added(image, tmp_path):
    child = tmp_path / "child.vhdx"
    assert changed("reg", "add", image, KEY, "--child", child)["registry"][0]["action"] == "create-key"
    assert run("reg", "query", str(child), KEY).code == 0


def test_value_that_is_so_already_changes_nothing(image, tmp_path):
    key = r"HKLM\SYSTEM\CurrentControlSet\Services\vmicvss"
    before = digests(tmp_path)
    document = changed("reg", "add", image, key, "/v", "Start", "/t", "REG_DWORD", "/d", "3", "--in-place")
    assert (document["changed"], document["would_change"]) == (False, False)
    assert digests(tmp_path) == before


def test_value_key_and_all_values_are_deleted(image, tmp_path):
    first, second, third = (tmp_path / f"{name}.vhdx" for name in ("first", "second", "third"))
    service = r"HKLM\SYSTEM\CurrentControlSet\Services\vmicvss"
    document = changed("reg", "delete", image, service, "/v", "Start", "/f", "--child", first)
    assert document["registry"][0]["before"] == {"type": "REG_DWORD", "data": 3, "size": 4}
    assert run("reg", "query", str(first), service, "/v", "Start").code == 1
    assert run("reg", "query", str(first), service, "/v", "Type").code == 0
    changed("reg", "delete", image, service, "/va", "/f", "--child", second)
    assert run("reg", "query", str(second), service, "/v", "Type").code == 1
    assert run("reg", "query", str(second), rf"{service}\Parameters").code == 0
    document = changed("reg", "delete", image, service, "/f", "--child", third)
    assert document["registry"][0]["below"] > 8
    assert run("reg", "query", str(third), service).code == 1


def test_absent_value_and_key_need_no_deletion(image, tmp_path):
    for arguments in ([KEY], [KEY, "/v", "Absent"], [r"HKLM\SYSTEM\Select", "/v", "Absent"]):
        document = changed("reg", "delete", image, *arguments, "--in-place")
        assert not document["changed"]
    assert list(digests(tmp_path)) == [image.name]


def test_reg_file_is_carried_out_as_a_whole(image, tmp_path):
    file, child = tmp_path / "settings.reg", tmp_path / "child.vhdx"
    file.write_bytes(b"\xff\xfe" + REG_FILE.replace("\n", "\r\n").encode("utf-16-le"))
    document = changed("reg", "import", image, file, "--child", child)
    assert document["would_change"]
    assert value_in(child, KEY, "Number") == ("REG_DWORD", 7)
    assert value_in(child, KEY, "") == ("REG_SZ", "fast")
    assert value_in(child, KEY, "Names") == ("REG_MULTI_SZ", ["a", "b"])
    assert value_in(child, r"HKLM\SYSTEM\CurrentControlSet\Services\vmicvss", "Start") == ("REG_DWORD", 4)
    assert run("reg", "query", str(child), r"HKLM\SYSTEM\CurrentControlSet\Services\W32Time").code == 1
    assert not changed("reg", "import", child, file, "--output", tmp_path / "again.vhdx")["changed"]


def test_wrong_reg_file_names_the_line(image, tmp_path):
    file = tmp_path / "wrong.reg"
    file.write_text('REGEDIT4\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\A]\n"B"=dword:zz\n')
    result = run("reg", "import", str(image), str(file), "--child", str(tmp_path / "child.vhdx"))
    assert result.code == 3
    assert "4" in result.stderr
    assert sorted(digests(tmp_path)) == [image.name, file.name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "KEY", "/v", "A", "/ve"],
        ["add", "KEY", "/d", "1"],
        ["add", "KEY", "/v", "A", "/t", "REG_NOTHING", "/d", "1"],
        ["add", "KEY", "/v", "A", "/t", "REG_DWORD", "/d", "many"],
        ["add", "NOROOT", "/v", "A", "/d", "1"],
        ["delete", "KEY", "/va", "/v", "A"],
        ["delete", r"HKLM\SOFTWARE"],
    ],
)
def test_wrong_usage_ends_2(image, arguments):
    command, key, *rest = arguments
    assert run("reg", command, str(image), KEY if key == "KEY" else key, *rest).code == 2
