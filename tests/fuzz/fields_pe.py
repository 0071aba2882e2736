"""A small PE file with a version resource and strings, and the fields of its headers and resource tree."""

from __future__ import annotations

import struct

from tests.fuzz.fields import fields_of
from tests.fuzz.mutate import Base, Field
from vhdtool.package import pe

RSRC_AT, RSRC_RVA = 0x400, 0x2000
PE_AT = 0x80


def pe_file() -> bytes:
    """One section, ``.rsrc``: a version resource in one language and a block of strings in two."""
    version = _version()
    strings = b"".join(struct.pack("<H", len(text)) + text.encode("utf-16-le") for text in ["", "Hello", *[""] * 14])
    leaves = [(16, 1, 0x409, version), (6, 7, 0x409, strings), (6, 7, 0x407, strings)]
    tree, data = _tree(leaves)
    section = (tree + data).ljust(0x600, b"\0")
    coff = pe.COFF_HEADER.build(
        {
            "signature": b"PE\0\0",
            "machine": 0x8664,
            "section_count": 1,
            "optional_header_size": 240,
            "characteristics": 0x2022,
        }
    )
    optional = pe.OPTIONAL_HEADER_64.build({"magic": 0x20B, "directory_count": 16})
    directories = b"".join(
        pe.DATA_DIRECTORY.build({"rva": RSRC_RVA if number == 2 else 0, "size": len(section) if number == 2 else 0})
        for number in range(16)
    )
    header = pe.SECTION_HEADER.build(
        {
            "name": b".rsrc\0\0\0",
            "virtual_size": len(section),
            "rva": RSRC_RVA,
            "raw_size": len(section),
            "raw_offset": RSRC_AT,
            "characteristics": 0x40000040,
        }
    )
    dos = pe.DOS_HEADER.build({"magic": b"MZ", "pe_offset": PE_AT}).ljust(PE_AT, b"\0")
    return (dos + coff + optional + directories + header).ljust(RSRC_AT, b"\0") + section


def _version() -> bytes:
    fixed = {
        "length": pe.VERSION_INFO.sizeof() + 28, "value_length": 52, "type": 0, "key": None, "signature": 0xFEEF04BD,
        "structure_version": 0x10000, "file_version_high": 0x000A0000, "file_version_low": 0x4A610456,
        "product_version_high": 0x000A0000, "product_version_low": 0x4A610456,
    }  # fmt: skip
    return bytes(pe.VERSION_INFO.build(fixed)) + bytes(28)


def _tree(leaves: list[tuple[int, int, int, bytes]]) -> tuple[bytes, bytes]:
    """Directories by type, id and language, then the data entries, then the data."""

    def directory(rows: list[tuple[int, int]]) -> bytes:
        head = pe.RESOURCE_DIRECTORY.build({"characteristics": 0, "named_count": 0, "id_count": len(rows)})
        return bytes(head) + b"".join(pe.RESOURCE_ENTRY.build({"id": key, "offset": at}) for key, at in rows)

    types = sorted({leaf[0] for leaf in leaves})

    def size(count: int) -> int:
        return int(pe.RESOURCE_DIRECTORY.sizeof() + count * pe.RESOURCE_ENTRY.sizeof())

    names_at = size(len(types))
    languages_at = names_at + len(types) * size(1)
    entries_at = languages_at + sum(size(sum(leaf[0] == kind for leaf in leaves)) for kind in types)
    data_at = entries_at + len(leaves) * pe.RESOURCE_DATA.sizeof()
    root, names, languages, entries, data = [], b"", b"", b"", b""
    for kind in types:
        root.append((kind, pe.SUBTREE | names_at + len(names)))
        mine = [leaf for leaf in leaves if leaf[0] == kind]
        names += directory([(mine[0][1], pe.SUBTREE | languages_at + len(languages))])
        rows = []
        for _, _, language, content in mine:
            rows.append((language, entries_at + len(entries)))
            rva = RSRC_RVA + data_at + len(data)
            entries += pe.RESOURCE_DATA.build({"rva": rva, "size": len(content), "code_page": 0})
            data += content + bytes(-len(content) % 8)
        languages += directory(sorted(rows))
    return directory(root) + names + languages + entries, data


def pe_fields(file: str, base: Base) -> list[Field]:
    """The fields of :func:`pe_file`."""
    coff = PE_AT + pe.COFF_HEADER.sizeof()
    found = list(fields_of(pe.DOS_HEADER, file, 0, "pe-dos", loops={"pe_offset": (0,)}))
    found += fields_of(pe.COFF_HEADER, file, PE_AT, "pe-coff", others={"section_count": (96, 97)})
    found += fields_of(pe.OPTIONAL_HEADER_64, file, coff, "pe-optional")
    found += fields_of(pe.DATA_DIRECTORY, file, coff + pe.OPTIONAL_HEADER_64.sizeof() + 16, "pe-directory")
    found += fields_of(pe.SECTION_HEADER, file, coff + 240, "pe-section", others={"raw_offset": (0, PE_AT, base.size)})
    pending, seen = [0], set()
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        found += fields_of(pe.RESOURCE_DIRECTORY, file, RSRC_AT + at, "pe-resources")
        head = pe.RESOURCE_DIRECTORY.parse(base.read(RSRC_AT + at, pe.RESOURCE_DIRECTORY.sizeof()))
        for number in range(head.id_count):
            place = at + pe.RESOURCE_DIRECTORY.sizeof() + number * pe.RESOURCE_ENTRY.sizeof()
            entry = pe.RESOURCE_ENTRY.parse(base.read(RSRC_AT + place, pe.RESOURCE_ENTRY.sizeof()))
            loops = (pe.SUBTREE | at, pe.SUBTREE)
            found += fields_of(
                pe.RESOURCE_ENTRY,
                file,
                RSRC_AT + place,
                "pe-entry",
                loops={"offset": loops},
                others={"offset": (0, at)},
            )
            if entry.offset & pe.SUBTREE:
                pending.append(entry.offset & ~pe.SUBTREE)
            else:
                leaf = RSRC_AT + entry.offset
                found += fields_of(pe.RESOURCE_DATA, file, leaf, "pe-data", others={"rva": (0, RSRC_RVA)})
                rva = pe.RESOURCE_DATA.parse(base.read(leaf, pe.RESOURCE_DATA.sizeof())).rva
                found += [
                    Field(file, RSRC_AT + rva - RSRC_RVA + step, 2, "pe-value", f"unit {step // 2}")
                    for step in range(0, 92, 2)
                ]
    return found
