from __future__ import annotations

import gzip
import lzma
import struct

import pytest
from backports import zstd

from tests.guest.linux_files import module_elf
from vhdtool.bytesource import BytesSource
from vhdtool.errors import InputError
from vhdtool.guest.linux_module_file import read_module

INFO = {"version": "3.1", "srcversion": "ABC", "vermagic": "6.1.0-1 SMP mod_unload ", "alias": "x", "name": "hv_vmbus"}
WHOLE = module_elf(INFO)


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstd.compress)]
)
def test_a_module_tells_of_itself_however_it_is_packed(suffix: str, pack):
    info = read_module(BytesSource(pack(WHOLE)), f"/lib/hv_vmbus.ko{suffix}")
    assert (info.version, info.srcversion, info.vermagic) == ("3.1", "ABC", "6.1.0-1 SMP mod_unload")
    assert info.release == "6.1.0-1"
    assert info.architecture == "amd64"


@pytest.mark.parametrize(("machine", "wide", "name"), [(3, False, "x86"), (183, True, "arm64"), (21, True, None)])
def test_both_classes_and_all_machines(machine: int, wide: bool, name: str | None):
    info = read_module(BytesSource(module_elf({"vermagic": "5.4"}, machine=machine, wide=wide)), "a.ko")
    assert (info.architecture, info.release, info.version) == (name, "5.4", None)


def test_a_signature_behind_the_module_does_not_matter():
    signed = WHOLE + bytes(500) + b"~Module signature appended~\n"
    assert read_module(BytesSource(signed), "a.ko").version == "3.1"


def patched(offset: int, layout: str, value: int) -> bytes:
    data = bytearray(WHOLE)
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"MZ" + bytes(100),
        WHOLE[:60],
        WHOLE[:-10],
        patched(4, "B", 3),
        patched(5, "B", 2),
        patched(0x28, "<Q", 1 << 63),
        patched(0x28, "<Q", 0),
        patched(0x3A, "<H", 0),
        patched(0x3C, "<H", 0),
        patched(0x3C, "<H", 0xFFFF),
        patched(0x3E, "<H", 3),
        module_elf(INFO).replace(b".modinfo", b".nothing"),
    ],
)
def test_a_damaged_module_is_one_clear_error(data: bytes):
    with pytest.raises(InputError) as caught:
        read_module(BytesSource(data), "/lib/a.ko")
    assert caught.value.code == "module-damaged"
    assert caught.value.path == "/lib/a.ko"


def test_a_section_that_says_to_be_huge():
    table = struct.unpack_from("<Q", WHOLE, 0x28)[0]
    for value in (1 << 40, (1 << 20) - 1):
        with pytest.raises(InputError) as caught:
            read_module(BytesSource(patched(table + 64 + 32, "<Q", value)), "a.ko")
        assert caught.value.code == "module-damaged"


def test_a_bomb_in_the_place_of_a_module():
    with pytest.raises(InputError) as caught:
        read_module(BytesSource(lzma.compress(bytes(20 << 20))), "a.ko.xz")
    assert caught.value.code == "unpacked-too-large"
