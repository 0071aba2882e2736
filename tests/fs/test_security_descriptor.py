"""Security descriptors: bytes typed in by the tables of MS-DTYP, and the descriptors of a volume that Windows wrote."""

from __future__ import annotations

import struct

import dissect.ntfs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data_files import data_file
from vhdtool.disk.device import DeviceStream, FileDevice
from vhdtool.errors import DamagedError, UsageError
from vhdtool.fs.security_descriptor import (
    DACL_AUTO_INHERITED,
    DENY,
    INHERITED,
    LARGEST,
    RIGHTS,
    SIDS,
    STAGED_DIRECTORY,
    STAGED_FILE,
    AccessEntry,
    SecurityDescriptor,
    from_sddl,
    inherited,
    parse_descriptor,
    sid_bytes,
)

SYSTEM = bytes.fromhex("01 01 000000000005 12000000")  # S-1-5-18: revision, one part, authority 5, part 18
ADMINISTRATORS = bytes.fromhex("01 02 000000000005 20000000 20020000")  # S-1-5-32-544


def staged(flags: str) -> bytes:
    """Protected, present, self-relative; two entries of full control (0x1F01FF); owner administrators, group SYSTEM."""
    entries = bytes.fromhex(f"00 {flags} 1400 ff011f00") + SYSTEM + bytes.fromhex(f"00 {flags} 1800 ff011f00")
    acl = bytes.fromhex("02 00 3400 0200 0000") + entries + ADMINISTRATORS
    assert len(acl) == 0x34
    head = struct.pack("<BBHIIII", 1, 0, 0x9004, 20 + 0x34, 20 + 0x34 + 16, 0, 20)
    return head + acl + ADMINISTRATORS + SYSTEM


@pytest.mark.parametrize(("text", "flags"), [(STAGED_DIRECTORY, "03"), (STAGED_FILE, "00")])
def test_what_is_staged_belongs_to_administrators_and_system_only(text: str, flags: str):
    made = from_sddl(text).to_bytes()
    assert made == staged(flags)
    assert parse_descriptor(made).to_sddl() == text


@pytest.mark.parametrize(
    "text",
    [
        "O:SYG:BAD:(A;;FR;;;SY)(A;;FR;;;BA)",
        "D:",
        "O:BA",
        "G:S-1-5-21-1-2-3-513",
        "D:AI(D;OICINPIOID;0x1301bf;;;AU)",
        "D:PARAI(A;;GA;;;WD)",
    ],
)
def test_text_comes_back(text: str):
    assert parse_descriptor(from_sddl(text).to_bytes()).to_sddl() == text


def test_rights_add_up():
    (entry,) = from_sddl("D:(A;;FRFX;;;BU)").dacl or ()
    assert entry.mask == 0x1200A9


@pytest.mark.parametrize(
    "text",
    ["x", "O:XX", "O:S-2-5-18", "O:S-1-5-4294967296", "O:S-1-281474976710656", "O:S-1-5" + "-1" * 16, "D:(A;;FA;;;)",
     "D:(X;;FA;;;SY)", "D:(A;;ZZ;;;SY)", "D:(A;;FA;;;SY", "S:(ML;;NW;;;LW)", "O:SYO:SY", "D:(A;XX;FA;;;SY)"],
)  # fmt: skip
def test_text_that_is_not_understood_is_refused(text: str):
    with pytest.raises(UsageError) as caught:
        from_sddl(text)
    assert caught.value.code == "bad-sddl"


def test_a_long_authority_keeps_its_high_part():
    sid = "S-1-281474976710655-4294967295"
    assert sid_bytes(sid) == bytes.fromhex("01 01 ffffffffffff ffffffff")
    made = SecurityDescriptor(sid, None, 0, None).to_bytes()
    assert parse_descriptor(made).owner == sid


def test_entries_of_other_kinds_are_kept():
    object_entry = AccessEntry(5, 0, 1, None, b"\1\0\0\0" + bytes(16) + SYSTEM)
    made = SecurityDescriptor(None, None, 0, (object_entry,)).to_bytes()
    assert made[20] == 4  # ACL_REVISION_DS
    assert parse_descriptor(made).dacl == (object_entry,)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, b"\2"), (2, b"\4\0"), (4, b"\xff\xff\0\0"), (16, b"\xf0\0\0\0"), (16, b"\xff\xff\xff\xff"), (22, b"\xff\xff"),
     (24, b"\3\0"), (30, b"\3\0"), (30, b"\xff\0"), (37, b"\xff"), (0x48, b"\2"), (0x49, b"\x10")],
)  # fmt: skip
def test_damage_is_told(at: int, value: bytes):
    data = bytearray(staged("00"))
    data[at : at + len(value)] = value
    with pytest.raises(DamagedError) as caught:
        parse_descriptor(bytes(data), "/file")
    assert caught.value.code == "security-descriptor-damaged"
    assert caught.value.path == "/file"


@given(st.binary(max_size=120), st.integers(0, 119), st.sampled_from([staged("00"), staged("03")]))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, good: bytes):
    for data in (noise, good[:at] + noise[: len(good) - at] + good[at + len(noise) :], good[:at]):
        try:
            parse_descriptor(data)
        except DamagedError:
            continue


def test_an_endless_descriptor_is_refused():
    with pytest.raises(DamagedError):
        parse_descriptor(staged("00").ljust(LARGEST + 1, b"\0"))


class TestInheritance:
    """MS-DTYP 2.5.3.4.4, the table of what becomes of each flag."""

    @pytest.mark.parametrize(
        ("flags", "file", "directory"),
        [
            ("", [], []),
            ("OI", [""], ["OIIO"]),
            ("CI", [], ["CI"]),
            ("OICI", [""], ["OICI"]),
            ("OICIIO", [""], ["OICI"]),
            ("OICINP", [""], [""]),
            ("OINP", [""], []),
            ("CIIO", [], ["CI"]),
        ],
    )
    def test_flags(self, flags: str, file: list[str], directory: list[str]):
        folder = from_sddl(f"D:(A;{flags};FR;;;BU)")
        for wanted, is_directory in ((file, False), (directory, True)):
            text = "".join(f"(A;{flag};FR;;;BU)" for flag in wanted) or "(A;;FA;;;SY)(A;;FA;;;BA)"
            assert inherited(folder, directory=is_directory).to_sddl() == f"O:BAG:SYD:{text}"

    def test_creator_and_generic_rights_are_replaced_for_the_object_and_passed_on_as_they_are(self):
        folder = from_sddl("D:(A;OICIIO;GA;;;CO)(A;OICI;GRGX;;;CG)")
        assert inherited(folder, directory=True, owner=SIDS["BU"]).to_sddl() == (
            "O:BUG:SYD:(A;;FA;;;BU)(A;OICIIO;GA;;;CO)(A;;0x1200a9;;;SY)(A;OICIIO;0xa0000000;;;CG)"
        )
        assert inherited(folder, directory=False).to_sddl() == "O:BAG:SYD:(A;;FA;;;BA)(A;;0x1200a9;;;SY)"

    def test_entries_are_marked_where_the_folder_inherits_automatically(self):
        made = inherited(from_sddl("D:AI(A;OICIID;FA;;;SY)(D;CI;FW;;;BU)"), directory=True)
        assert made.to_sddl() == "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(D;CIID;FW;;;BU)"
        assert made.control & DACL_AUTO_INHERITED
        assert [entry.flags & INHERITED for entry in made.dacl or ()] == [INHERITED, INHERITED]
        assert (made.dacl or ())[1].type == DENY

    def test_protection_is_not_passed_on(self):
        made = inherited(from_sddl(STAGED_DIRECTORY), directory=False)
        assert made.to_sddl() == "O:BAG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)"

    def test_a_folder_without_a_list_gives_administrators_and_system(self):
        assert inherited(from_sddl("O:SYG:SY"), directory=True).to_sddl() == "O:BAG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)"

    def test_nobody_gets_more_than_the_folder_says(self):
        made = inherited(from_sddl("D:(A;OICI;FR;;;BU)"), directory=False)
        assert [entry.mask for entry in made.dacl or ()] == [RIGHTS["FR"]]


@pytest.fixture(scope="module")
def stored() -> dict[int, bytes]:
    """The descriptors of a volume that Windows wrote, by their numbers; 0 is the root's own."""
    device = FileDevice(data_file("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz"))
    volume = dissect.ntfs.NTFS(DeviceStream(device))
    stream = volume.mft.get(9).open("$SDS").read()
    found = {0: volume.mft.get(5).attributes[0x50][0].data()}
    offset = 0
    while offset + 20 <= 0x40000:
        _, number, _, size = struct.unpack_from("<IIQI", stream, offset)
        if size < 20:
            break
        found[number] = stream[offset + 20 : offset + size]
        offset = -(-(offset + size) // 16) * 16
    device.close()
    return found


@pytest.mark.data
def test_the_bytes_that_windows_wrote_come_back(stored: dict[int, bytes]):
    assert len(stored) >= 13
    for number, data in stored.items():
        assert parse_descriptor(data).to_bytes() == data, number


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "directory", "made"),
    [(0, True, 263), (0, False, 267), (263, False, 267), (263, True, 263), (265, False, 266)],
)
def test_inheritance_is_that_of_windows(stored: dict[int, bytes], folder: int, directory: bool, made: int):
    """Made by Windows in these folders: ``Directory``, ``File.txt``, files and folders in it, ``desktop.ini``."""
    theirs = parse_descriptor(stored[made])
    assert theirs.owner is not None
    assert theirs.group is not None
    ours = inherited(parse_descriptor(stored[folder]), directory=directory, owner=theirs.owner, group=theirs.group)
    assert ours == theirs
    assert ours.to_bytes() == stored[made]
