"""Small PE files with a version resource and a string table, written after the PE format specification by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping

RT_STRING, RT_VERSION = 6, 16
RSRC_RVA = 0x2000
RAW = 0x400

Leaf = bytes
Tree = Mapping[int, "Tree | Leaf"]


def build_pe(
    version: tuple[int, int, int, int] | None = None,
    strings: Mapping[int, Mapping[int, str]] | None = None,
    *,
    wide: bool = True,
    resources: bool = True,
) -> bytes:
    """``strings`` maps LCIDs to texts by string id. ``wide``: PE32+, else PE32."""
    tree: dict[int, Tree] = {}
    if strings:
        blocks: dict[int, dict[int, bytes]] = {}
        for language, texts in strings.items():
            for block in {string_id // 16 for string_id in texts}:
                data = b""
                for string_id in range(block * 16, block * 16 + 16):
                    text = texts.get(string_id, "").encode("utf-16-le")
                    data += struct.pack("<H", len(text) // 2) + text
                blocks.setdefault(block + 1, {})[language] = data
        tree[RT_STRING] = blocks
    if version is not None:
        tree[RT_VERSION] = {1: {0x409: version_resource(version)}}
    rsrc = _resources(tree)
    optional_size = 112 + 16 * 8 if wide else 96 + 16 * 8
    dos = b"MZ" + bytes(58) + struct.pack("<I", 0x80)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664 if wide else 0x14C, 2, 0, 0, 0, optional_size, 0x2022)
    head = struct.pack("<H", 0x20B if wide else 0x10B) + bytes((112 if wide else 96) - 6) + struct.pack("<I", 16)
    directories = [(0, 0)] * 16
    if resources:
        directories[2] = (RSRC_RVA, len(rsrc))
    optional = head + b"".join(struct.pack("<II", *entry) for entry in directories)
    text = _section(b".text", 0x1000, 0x200, 0x200)
    data = _section(b".rsrc", RSRC_RVA, len(rsrc), RAW)
    file = (dos.ljust(0x80, b"\0") + coff + optional + text + data).ljust(RAW, b"\0")
    return file + rsrc.ljust(-(-len(rsrc) // 0x200) * 0x200, b"\0")


def _section(name: bytes, rva: int, size: int, raw: int) -> bytes:
    stored = -(-size // 0x200) * 0x200
    return name.ljust(8, b"\0") + struct.pack("<IIIIIIHHI", size, rva, stored, raw, 0, 0, 0, 0, 0x40000040)


def version_resource(version: tuple[int, int, int, int]) -> bytes:
    """VS_VERSIONINFO with nothing but the fixed part."""
    major, minor, build, revision = version
    words = (0xFEEF04BD, 0x10000, major << 16 | minor, build << 16 | revision, major << 16 | minor, build << 16)
    fixed = struct.pack("<13I", *words, 0x3F, 0, 0x40004, 2, 0, 0, 0)
    key = "VS_VERSION_INFO\0".encode("utf-16-le")
    return struct.pack("<HHH", 6 + len(key) + 2 + len(fixed), len(fixed), 0) + key + bytes(2) + fixed


def _resources(tree: Tree) -> bytes:
    directories: list[tuple[Tree, int]] = []
    leaves: list[bytes] = []
    place = 0
    queue: list[Tree] = [tree]
    while queue:
        node = queue.pop(0)
        directories.append((node, place))
        place += 16 + 8 * len(node)
        queue += [node[name] for name in sorted(node) if isinstance(node[name], Mapping)]
    data_place = place + 16 * sum(1 for node, _ in directories for below in node.values() if isinstance(below, bytes))
    starts = {id(node): start for node, start in directories}
    out = bytearray()
    entries = bytearray()
    payload = bytearray()
    for node, _ in directories:
        out += struct.pack("<IIHHHH", 0, 0, 4, 0, 0, len(node))
        for name in sorted(node):
            below = node[name]
            if isinstance(below, bytes):
                out += struct.pack("<II", name, place + len(entries))
                entries += struct.pack("<IIII", RSRC_RVA + data_place + len(payload), len(below), 0, 0)
                payload += below.ljust(-(-len(below) // 4) * 4, b"\0")
                leaves.append(below)
            else:
                out += struct.pack("<II", name, 0x80000000 | starts[id(below)])
    return bytes(out + entries + payload)
