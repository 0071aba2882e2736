"""Files of a Linux guest, made by the book and not by the code that reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping


def cpio(entries: Iterable[tuple[str, bytes]], *, trailer: bool = True) -> bytes:
    """A newc archive (cpio(5)); contents may be anything."""
    found = bytearray()
    for name, content in [*entries, *([("TRAILER!!!", b"")] if trailer else [])]:
        encoded = name.encode() + b"\0"
        numbers = [1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        found += b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        found += bytes(-len(found) % 4) + content
        found += bytes(-len(found) % 4)
    return bytes(found)


def module_elf(info: Mapping[str, str], *, machine: int = 62, wide: bool = True) -> bytes:
    """A relocatable ELF file with the sections .modinfo and .shstrtab (System V ABI, chapter 4)."""
    data = b"".join(f"{name}={value}".encode() + b"\0" for name, value in info.items())
    names = b"\0.modinfo\0.shstrtab\0"
    size = 64 if wide else 52
    table = size + len(data) + len(names)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        header = identity + struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
        section = "<IIQQQQIIQQ"
    else:
        header = identity + struct.pack("<HHIIIIIHHHHHH", 1, machine, 1, 0, 0, table, 0, 52, 0, 0, 40, 3, 2)
        section = "<IIIIIIIIII"
    sections = [(0, 0, 0, 0, 0, 0), (1, 1, 0, 0, size, len(data)), (10, 3, 0, 0, size + len(data), len(names))]
    return header + data + names + b"".join(struct.pack(section, *one, 0, 0, 1, 0) for one in sections)


def rpm_header(name: str, version: str, release: str, files: Iterable[str], *, epoch: int | None = None) -> bytes:
    """The header of a package as rpm's databases keep it (rpm, hregions.md), without regions."""
    paths = [path.rpartition("/") for path in files]
    folders = sorted({f"{folder}/" for folder, _, _ in paths})
    tags: list[tuple[int, int, int, bytes]] = [
        (1000, 6, 1, name.encode() + b"\0"),
        (1001, 6, 1, version.encode() + b"\0"),
        (1002, 6, 1, release.encode() + b"\0"),
    ]
    if epoch is not None:
        tags.append((1003, 4, 1, struct.pack(">I", epoch)))
    if paths:
        indexes = [folders.index(f"{folder}/") for folder, _, _ in paths]
        tags.append((1116, 4, len(paths), struct.pack(f">{len(paths)}I", *indexes)))
        tags.append((1117, 8, len(paths), b"".join(file.encode() + b"\0" for _, _, file in paths)))
        tags.append((1118, 8, len(folders), b"".join(folder.encode() + b"\0" for folder in folders)))
    index, data = b"", b""
    for tag, kind, count, content in tags:
        data += bytes(-len(data) % 4)
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += content
    return struct.pack(">II", len(tags), len(data)) + index + data


def kvp_record(key: str, value: str) -> bytes:
    return key.encode().ljust(512, b"\0") + value.encode().ljust(2048, b"\0")


def kernel_image(banner: str) -> bytes:
    """The first bytes of an x86 kernel (Linux, Documentation/arch/x86/boot.rst)."""
    data = bytearray(0x3000)
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x20E, 0x2000)
    text = banner.encode() + b"\0"
    data[0x2200 : 0x2200 + len(text)] = text
    return bytes(data)
