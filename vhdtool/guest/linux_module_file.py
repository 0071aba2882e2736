"""What a kernel module says of itself: the section ``.modinfo`` of its ELF file, whatever it is packed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import construct as c

from vhdtool.bytesource import ByteSource, BytesSource
from vhdtool.errors import DamagedError
from vhdtool.guest.linux_unpack import SUFFIXES, unpack
from vhdtool.layout import packed

LARGEST_MODULE = 16 << 20
"""Unpacked. Hyper-V modules have some 100 KiB, with debugging symbols a few MiB."""

MOST_SECTIONS = 65536
MODINFO = b".modinfo"
LARGEST_MODINFO = 1 << 20


# System V ABI, chapter 4, "ELF Header" and "Section Header"; the two classes have fields of two widths.
ELF_IDENTITY = c.Struct("magic" / c.Bytes(4), "class" / c.Int8ul, "data" / c.Int8ul, c.Padding(10))
ELF32_HEADER = c.Struct(
    c.Padding(18), "machine" / c.Int16ul, c.Padding(12), "sections" / c.Int32ul, c.Padding(10),
    "section_size" / c.Int16ul, "section_count" / c.Int16ul, "names" / c.Int16ul,
)  # fmt: skip
ELF64_HEADER = c.Struct(
    c.Padding(18), "machine" / c.Int16ul, c.Padding(20), "sections" / c.Int64ul, c.Padding(10),
    "section_size" / c.Int16ul, "section_count" / c.Int16ul, "names" / c.Int16ul,
)  # fmt: skip
ELF32_SECTION = c.Struct("name" / c.Int32ul, c.Padding(12), "offset" / c.Int32ul, "size" / c.Int32ul, c.Padding(16))
ELF64_SECTION = c.Struct("name" / c.Int32ul, c.Padding(20), "offset" / c.Int64ul, "size" / c.Int64ul, c.Padding(24))
_IDENTITY = packed(ELF_IDENTITY)
_LAYOUTS = {1: (packed(ELF32_HEADER), packed(ELF32_SECTION)), 2: (packed(ELF64_HEADER), packed(ELF64_SECTION))}

MACHINES: dict[int, Literal["amd64", "x86", "arm64"]] = {3: "x86", 62: "amd64", 183: "arm64"}
"""EM_386, EM_X86_64, EM_AARCH64 (Linux, include/uapi/linux/elf-em.h)."""


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module's own words. ``architecture`` is ``None`` for one that Hyper-V does not run."""

    architecture: Literal["amd64", "x86", "arm64"] | None
    version: str | None
    vermagic: str | None
    srcversion: str | None

    @property
    def release(self) -> str | None:
        """The kernel that it was made for: the first word of ``vermagic``."""
        return self.vermagic.split(" ", 1)[0] if self.vermagic else None


def read_module(source: ByteSource, path: str) -> ModuleInfo:
    """Read a module. Raises :class:`DamagedError` ``module-damaged``, and what unpacking raises."""
    compression = next((kind for suffix, kind in SUFFIXES.items() if path.endswith(suffix)), None)
    if compression is not None:
        source = BytesSource(unpack(source, compression, LARGEST_MODULE, path=path))
    machine, data = _modinfo(source, path)
    fields: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            fields.setdefault(name.decode("ascii", "replace"), value.decode("utf-8", "replace"))
    return ModuleInfo(
        architecture=MACHINES.get(machine),
        version=fields.get("version"),
        vermagic=fields["vermagic"].strip() if "vermagic" in fields else None,
        srcversion=fields.get("srcversion"),
    )


def _modinfo(source: ByteSource, path: str) -> tuple[int, bytes]:
    identity = source.read_at(0, _IDENTITY.size)
    if len(identity) < _IDENTITY.size or identity[:4] != b"\x7fELF":
        raise _damaged("it is no ELF file", path, 0)
    _, kind, order = _IDENTITY.unpack(identity)
    if kind not in _LAYOUTS or order != 1:
        raise _damaged("its ELF class or byte order is of no system that Hyper-V runs", path, 4)
    header, section = _LAYOUTS[kind]
    machine, place, size, count, names = header.unpack(_exactly(source, 0, header.size, path))
    if size != section.size or not 0 < count <= MOST_SECTIONS or names >= count:
        raise _damaged("its section table makes no sense", path, place)
    table = _exactly(source, place, size * count, path)
    found = [section.unpack_from(table, at * size) for at in range(count)]
    _, names_at, names_size = found[names]
    texts = _exactly(source, names_at, min(names_size, LARGEST_MODINFO), path)
    for name, offset, length in found:
        if texts[name : name + len(MODINFO) + 1] == MODINFO + b"\0":
            if length > LARGEST_MODINFO:
                raise _damaged("its information is larger than any", path, offset)
            return machine, _exactly(source, offset, length, path)
    raise _damaged("it has no information section", path, place)


def _exactly(source: ByteSource, offset: int, length: int, path: str) -> bytes:
    data = source.read_at(offset, length) if offset <= source.size else b""
    if len(data) != length:
        raise _damaged("it ends too early", path, offset)
    return data


def _damaged(text: str, path: str, offset: int) -> DamagedError:
    return DamagedError(
        "module-damaged", f"the kernel module is damaged: {text}", path=path, offset=offset,
        hint="Install the kernel's package again in the guest.",
    )  # fmt: skip
