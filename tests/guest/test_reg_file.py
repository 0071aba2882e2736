from __future__ import annotations

import pytest

from tests.guest.guests import guest
from vhdtool.bytesource import BytesSource
from vhdtool.errors import InputError, NotFoundError
from vhdtool.guest import reg_file
from vhdtool.guest.reg_file import operations_by_hive, read_reg_file, read_reg_source
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue

V5 = "Windows Registry Editor Version 5.00"
KEY = r"[HKEY_LOCAL_MACHINE\SOFTWARE\Contoso]"


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def file(*lines: str, version: str = V5) -> bytes:
    return b"\xff\xfe" + utf16("\r\n".join([version, "", *lines, ""]))


def read(*lines: str, ansi: bool = False) -> list[RegistryOperation]:
    content = "\r\n".join(["REGEDIT4", "", *lines, ""]).encode("cp1252") if ansi else file(*lines)
    return [entry.operation for entry in read_reg_file(content, path="x.reg")]


def fails(*lines: str, code: str = "reg-file-syntax", line: int | None = None) -> InputError:
    with pytest.raises(InputError) as raised:
        read(*lines)
    assert (raised.value.code, raised.value.exit_code, raised.value.path) == (code, 3, "x.reg")
    if line is not None:
        assert raised.value.message.startswith(f"line {line}: ")
    return raised.value


def test_every_kind_of_line() -> None:
    found = read(
        "; a comment",
        KEY,
        '@="the default"',
        '"Text"="a \\"quoted\\" C:\\\\path"  ; said so',
        '"Number"=dword:0000002A',
        '"Bytes"=hex:de,ad,be,ef',
        '"Wide"=hex(2):25,00,41,00,25,00,00,00',
        '"List"=hex(7):61,00,00,00,62,00,00,00,00,00',
        '"Long"=hex(b):01,00,00,00,00,00,00,00',
        '"None"=hex(0):',
        '"Gone"=-',
        "@=-",
        "",
        r"[-HKEY_LOCAL_MACHINE\SOFTWARE\Contoso\Old]",
        r"[HKEY_LOCAL_MACHINE\SYSTEM]",
    )
    key = "Contoso"
    assert found == [
        CreateKey(key),
        SetValue(key, "", 1, utf16("the default\0")),
        SetValue(key, "Text", 1, utf16('a "quoted" C:\\path\0')),
        SetValue(key, "Number", 4, b"\x2a\0\0\0"),
        SetValue(key, "Bytes", 3, b"\xde\xad\xbe\xef"),
        SetValue(key, "Wide", 2, utf16("%A%\0")),
        SetValue(key, "List", 7, utf16("a\0b\0\0")),
        SetValue(key, "Long", 11, b"\1\0\0\0\0\0\0\0"),
        SetValue(key, "None", 0, b""),
        DeleteValue(key, "Gone"),
        DeleteValue(key, ""),
        DeleteKey(r"Contoso\Old"),
        CreateKey(""),
    ]


def test_lines_are_counted_and_keys_named() -> None:
    entries = read_reg_file(file(KEY, '"A"=hex:00,\\', "  01", '"B"=-'), path="x.reg")
    assert [entry.line for entry in entries] == [3, 4, 6]
    assert {entry.key.shown for entry in entries} == {r"HKEY_LOCAL_MACHINE\SOFTWARE\Contoso"}
    assert {entry.key.hive for entry in entries} == {"SOFTWARE"}


def test_bytes_go_on_over_lines() -> None:
    found = read(KEY, '"A"=hex:00,01,\\', "  02,03,\\ ; why not", "", "; between", "  04", '"B"=hex(80000001):ff,')
    assert found[1:] == [SetValue("Contoso", "A", 3, bytes(range(5))), SetValue("Contoso", "B", 0x80000001, b"\xff")]


def test_a_string_goes_on_over_lines() -> None:
    found = read(KEY, '"A"="one  ', "two ; no comment", '[three]"', '"B"="\\n\\r"')
    assert found[1:] == [
        SetValue("Contoso", "A", 1, utf16("one  \r\ntwo ; no comment\r\n[three]\0")),
        SetValue("Contoso", "B", 1, utf16("\n\r\0")),
    ]


def test_names_that_look_like_something_else() -> None:
    found = read(r"[HKEY_LOCAL_MACHINE\SOFTWARE\a]b;c]", '"=;\\"]"="x"')
    assert found == [CreateKey("a]b;c"), SetValue("a]b;c", '=;"]', 1, utf16("x\0"))]
    assert read(KEY, '"\u2028\x0b"="\u2028"')[1] == SetValue("Contoso", "\u2028\x0b", 1, utf16("\u2028\0"))


def test_half_characters_survive() -> None:
    assert read(KEY, '"\ud800"="\udc00"')[1] == SetValue("Contoso", "\ud800", 1, utf16("\udc00\0"))


def test_an_ansi_file_holds_ansi_bytes() -> None:
    found = read(KEY, '"Größe"="Maß"', '"W"=hex(2):25,e4,25,00', '"L"=hex(7):61,00,62,00,00', '"B"=hex:e4', ansi=True)
    assert found[1:] == [
        SetValue("Contoso", "Größe", 1, utf16("Maß\0")),
        SetValue("Contoso", "W", 2, utf16("%ä%\0")),
        SetValue("Contoso", "L", 7, utf16("a\0b\0\0")),
        SetValue("Contoso", "B", 3, b"\xe4"),
    ]


def test_without_a_mark_utf_8_is_seen_where_it_is_valid() -> None:
    def name_in(content: bytes) -> str:
        operation = read_reg_file(content, path="x.reg")[1].operation
        assert isinstance(operation, DeleteValue)
        return operation.name

    text = f'{V5}\n{KEY}\n"Größe"=-\n'
    assert name_in(text.encode()) == "Größe"
    assert name_in(text.encode("cp1252")) == "Größe"
    assert name_in(text.replace(V5, "REGEDIT4").encode("cp1252")) == "Größe"
    assert name_in(text.replace(V5, "REGEDIT4").encode()) == "GrÃ¶ÃŸe"


def test_strings_in_bytes_get_their_end() -> None:
    found = read(KEY, '"W"=hex(2):41,00', '"Odd"=hex(2):41', '"S"=hex(1):41,00,00,00', '"E"=hex(7):')
    assert [one.data for one in found[1:] if isinstance(one, SetValue)] == [b"A\0\0\0", b"A", b"A\0\0\0", b""]


@pytest.mark.parametrize(
    "content",
    [
        f"{V5}\r\n{KEY}\r\n".encode("utf-16"),
        f"{V5}\n{KEY}".encode("utf-16-le"),
        b"\xfe\xff" + f"{V5}\n{KEY}".encode("utf-16-be"),
        f"{V5}\r\n{KEY}\r\n".encode("utf-8-sig"),
        f"  {V5} \r\n{KEY}\r\n".encode(),
        f"REGEDIT4\n{KEY}\n".encode(),
    ],
    ids=["utf-16", "utf-16 unmarked", "big-endian", "utf-8", "ascii", "regedit4"],
)
def test_encodings(content: bytes) -> None:
    (entry,) = read_reg_file(content, path="x.reg")
    assert entry.operation == CreateKey("Contoso")


@pytest.mark.parametrize(
    "content",
    [b"", b"[Version]\r\n", b"REGEDIT\r\n", b"\xff\xfe\x00\xd8", b"\xff\xfea", b"\xef\xbb\xbf\xff", b"\0\0\0\0",
     f"{V5}\r\n{KEY}\0\r\n".encode("utf-16"), b"REGEDIT4\n\x81\x8d"],
)  # fmt: skip
def test_what_is_no_such_file(content: bytes) -> None:
    with pytest.raises(InputError) as raised:
        read_reg_file(content, path="x.reg")
    assert raised.value.code == "reg-file-version"


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (['"A"="x"'], 3),
        ([KEY, "A=1"], 4),
        ([KEY, '"A"'], 4),
        ([KEY, '"A"='], 4),
        ([KEY, '"A"=x'], 4),
        ([KEY, '"A"="x" y'], 4),
        ([KEY, '"A"="C:\\temp"'], 4),
        ([KEY, '"A"="x', "y"], 4),
        ([KEY, '"A'], 4),
        ([KEY, '"A"="x\\'], 4),
        ([KEY, '"A"=dword:123456789'], 4),
        ([KEY, '"A"=dword:'], 4),
        ([KEY, '"A"=dword:0x1'], 4),
        ([KEY, '"A"=hex:00,1ff'], 4),
        ([KEY, '"A"=hex:00,,01'], 4),
        ([KEY, '"A"=hex(:00'], 4),
        ([KEY, '"A"=hex(123456789):00'], 4),
        ([KEY, '"A"=hex:00,\\'], 4),
        ([KEY, '"A"=hex:00,\\', "[x]"], 5),
        ([KEY, '"A"=-x'], 4),
        ([KEY, "@"], 4),
        ([KEY, f'"{"A" * 16384}"=-'], 4),
        ([r"[HKEY_LOCAL_MACHINE\SOFTWARE\X"], 3),
        ([r"[-HKEY_LOCAL_MACHINE\SOFTWARE\X]", '"A"="x"'], 4),
    ],
)
def test_a_line_that_is_wrong_is_named(lines: list[str], number: int) -> None:
    fails(*lines, line=number)


@pytest.mark.parametrize(
    "line",
    [
        r"[HKEY_CURRENT_USER\Software]",
        r"[HKEY_CLASSES_ROOT\.txt]",
        r"[SOFTWARE\Contoso]",
        "[HKEY_LOCAL_MACHINE]",
        "[]",
        r"[-HKEY_LOCAL_MACHINE\SOFTWARE]",
        rf"[HKEY_LOCAL_MACHINE\SOFTWARE\{'x' * 256}]",
        "[HKEY_LOCAL_MACHINE\\SOFTWARE" + r"\x" * 513 + "]",
    ],
)
def test_keys_that_no_hive_of_the_machine_holds(line: str) -> None:
    fails(line, code="reg-file-key", line=3)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reg_file, "MOST_OPERATIONS", 2)
    fails(KEY, '"A"=-', '"B"=-', code="reg-file-size")
    monkeypatch.setattr(reg_file, "LARGEST_FILE", 10)
    with pytest.raises(InputError) as raised:
        read_reg_source(BytesSource(file(KEY)), path="x.reg")
    assert raised.value.code == "reg-file-size"


def test_a_large_value_is_read_in_linear_time() -> None:
    data = ",".join(["00"] * 200_000)
    text = '\\"' * 100_000
    found = read(KEY, f'"A"=hex:{data}', f'"B"="{text}"', '"C"="' + "\r\n" * 50_000 + '"')
    assert [len(one.data) for one in found if isinstance(one, SetValue)] == [200_000, 200_002, 200_002]


def test_operations_by_hive() -> None:
    entries = read_reg_source(
        BytesSource(
            file(
                r"[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\X]",
                '"Start"=dword:4',
                '"Old"=-',
                r"[-HKEY_LOCAL_MACHINE\SYSTEM\currentcontrolset\Y]",
                r"[HKEY_LOCAL_MACHINE\software\Contoso]",
                r"[HKEY_USERS\.DEFAULT\Console]",
            )
        ),
        path="x.reg",
    )
    installation = guest({"Select": {"Current": 2}, r"ControlSet002\Services": {}})
    service = r"ControlSet002\Services\X"
    assert operations_by_hive(installation, entries) == {
        "SYSTEM": (
            CreateKey(service),
            SetValue(service, "Start", 4, b"\4\0\0\0"),
            DeleteValue(service, "Old"),
            DeleteKey(r"ControlSet002\Y"),
        ),
        "SOFTWARE": (CreateKey("Contoso"),),
        "DEFAULT": (CreateKey("Console"),),
    }
    with pytest.raises(NotFoundError) as raised:
        operations_by_hive(guest({"Setup": {"SetupType": 0}}), entries)
    assert raised.value.code == "no-control-set"
    assert operations_by_hive(guest({"Setup": {"SetupType": 0}}), entries[-1:]) == {"DEFAULT": (CreateKey("Console"),)}
