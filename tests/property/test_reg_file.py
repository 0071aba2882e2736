"""Any text is read or refused with the number of the line; what is written as the registry editor does comes back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from vhdtool.errors import InputError
from vhdtool.guest.reg_file import read_reg_file
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue

VERSION = "Windows Registry Editor Version 5.00"
ROOT = "HKEY_LOCAL_MACHINE\\SOFTWARE"
PIECES = st.sampled_from(
    [
        *(
            '"',
            "\\",
            "=",
            "-",
            "@",
            "[",
            "]",
            ";",
            ",",
            " ",
            "\r\n",
            "\n",
            "a",
            "0",
            "1f",
            "hex:",
            "hex(2):",
            "hex(b",
            "):",
        ),
        *("dword:", f"[{ROOT}\\x]", f"[-{ROOT}\\y]", '"v"=', "\u2028", "\0", "\ud800", "\ufeff"),
    ]
)
CHARACTERS = st.characters(exclude_characters="\0")
NAMES = st.text(CHARACTERS.filter(lambda one: one not in "\\\r\n"), min_size=1, max_size=8).filter(
    lambda name: name.strip() == name
)
STRINGS = st.text(CHARACTERS.filter(lambda one: one != "\r"), max_size=20)


def refusal(content: bytes) -> InputError | None:
    try:
        entries = read_reg_file(content, path="x")
    except InputError as error:
        return error
    lines = [entry.line for entry in entries]
    assert lines == sorted(set(lines))
    assert not lines or lines[0] >= 2
    return None


@given(st.lists(PIECES, max_size=40))
@example(['"v"=hex:', "\\", "\r\n"])
def test_any_text_is_read_or_refused_with_the_number_of_its_line(pieces: list[str]) -> None:
    text = f"{VERSION}\r\n" + "".join(pieces)
    found = refusal(b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass"))
    if found is not None and found.code != "reg-file-version":
        assert found.code in {"reg-file-syntax", "reg-file-key"}
        number = int(found.message.removeprefix("line ").partition(":")[0])
        assert 2 <= number <= text.count("\n") + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    found = refusal(content)
    assert found is None or found.code.startswith("reg-file-")


OPERATIONS = st.one_of(
    st.builds(SetValue, st.just(""), STRINGS, st.just(1), STRINGS.map(lambda text: utf16(text + "\0"))),
    st.builds(SetValue, st.just(""), STRINGS, st.just(4), st.binary(min_size=4, max_size=4)),
    st.builds(SetValue, st.just(""), STRINGS, st.sampled_from([0, 3, 5, 11, 0x80000001]), st.binary(max_size=60)),
    st.builds(DeleteValue, st.just(""), STRINGS),
)


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\r\n")
    return f'"{escaped}"'


def data_of(operation: SetValue) -> str:
    if operation.type == 1:
        return quoted(operation.data.decode("utf-16-le", "surrogatepass").removesuffix("\0"))
    if operation.type == 4:
        return f"dword:{int.from_bytes(operation.data, 'little'):08x}"
    head = "hex:" if operation.type == 3 else f"hex({operation.type:x}):"
    pieces = [f"{byte:02x}" for byte in operation.data]
    lines = [",".join(pieces[at : at + 20]) for at in range(0, len(pieces), 20)]
    return head + ",\\\r\n  ".join(lines)


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(OPERATIONS, max_size=8))
def test_what_is_written_is_read(names: list[str], operations: list[SetValue | DeleteValue]) -> None:
    key = "\\".join(names)
    lines = [VERSION, "", f"[-{ROOT}\\{key}]", "", f"[{ROOT}\\{key}]"]
    expected: list[RegistryOperation] = [DeleteKey(key), CreateKey(key)]
    for operation in operations:
        name = quoted(operation.name) if operation.name else "@"
        stored_name = operation.name.replace("\n", "\r\n")
        if isinstance(operation, SetValue):
            lines.append(f"{name}={data_of(operation)}")
            data = operation.data
            if operation.type == 1:
                data = utf16(data.decode("utf-16-le", "surrogatepass").replace("\n", "\r\n"))
            expected.append(SetValue(key, stored_name, operation.type, data))
        else:
            lines.append(f"{name}=-")
            expected.append(DeleteValue(key, stored_name))
    content = b"\xff\xfe" + utf16("\r\n".join([*lines, ""]))
    assert [entry.operation for entry in read_reg_file(content, path="x")] == expected
