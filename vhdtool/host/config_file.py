"""The files of a machine's configuration: which kind one is, and its keys."""

from __future__ import annotations

from contextlib import closing
from typing import Literal

from vhdtool.disk.device import FileDevice
from vhdtool.errors import InputError
from vhdtool.host.config_tree import ConfigNode, node, text
from vhdtool.host.storage import read_storage
from vhdtool.host.storage_format import HEADER_OFFSETS, SIGNATURE
from vhdtool.host.vm_xml import MAX_XML, read_vm_xml

ConfigFormat = Literal["vmcx", "vmrs", "xml"]


def read_config_tree(path: str) -> tuple[ConfigFormat, ConfigNode]:
    """Read a file and return its kind and its keys.

    Raises :class:`InputError` ``cannot-open``, ``not-a-vm-config``, and as
    :func:`vhdtool.host.storage.read_storage` and :func:`vhdtool.host.vm_xml.read_vm_xml`.
    """
    with closing(FileDevice(path)) as file:
        head = file.read_at(0, 4)
        if any(file.read_at(offset, 4) == SIGNATURE.to_bytes(4, "little") for offset in HEADER_OFFSETS):
            tree = read_storage(file, path=path)
            config = node(tree, "configuration") or {}
            return ("vmcx" if "manifest" in config or text(config, "properties", "name") is not None else "vmrs"), tree
        if not _looks_like_xml(head):
            raise InputError(
                "not-a-vm-config",
                "the file is no configuration of a machine",
                path=path,
                expected="a .vmcx, .vmrs or .xml of Hyper-V",
                found=head.hex() or "an empty file",
                hint=r"Name the machine's file below Virtual Machines\: GUID.vmcx, or GUID.xml up to 2012 R2.",
            )
        if file.size > MAX_XML:
            raise InputError(
                "vm-config-too-large",
                "the file is too long for a configuration",
                path=path,
                expected=f"at most {MAX_XML} bytes",
                found=file.size,
                hint=r"Name the machine's own file, below Virtual Machines\.",
            )
        return "xml", read_vm_xml(file.read_at(0, file.size), path=path)


def _looks_like_xml(head: bytes) -> bool:
    return head.startswith((b"\xff\xfe<\0", b"\xfe\xff\0<", b"\xef\xbb\xbf<", b"<", b"<\0", b"\0<"))
