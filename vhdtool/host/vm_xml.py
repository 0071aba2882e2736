"""The ``.xml`` that Hyper-V of Windows Server 2008 to 2012 R2 keeps a machine's configuration in.

The tree is that of ``.vmcx``: the root element is ``configuration``, an element with a ``type`` (string, integer, bool,
bytes) is a value, any other a node. Hyper-V writes UTF-16 with a byte order mark. There is no published specification;
the names are those of exported machines (Vagrant boxes of Windows Server 2012 R2, ManageIQ's reader).
"""

from __future__ import annotations

from vhdtool.errors import DamagedError, InputError, RefusedError
from vhdtool.host.config_tree import ConfigNode
from vhdtool.package.xml_tree import XmlElement, parse_xml

ROOT = "configuration"
MAX_XML = 16 << 20
"""Longest file that is read, in bytes; genuine ones have some 50 KiB."""
_INTEGER_DIGITS = 20


def read_vm_xml(data: bytes, *, path: str) -> ConfigNode:
    """Read a configuration and return its root, whose only child is ``configuration``.

    Raises :class:`DamagedError` ``vm-config-damaged``, :class:`InputError` ``not-a-vm-config``,
    ``vm-config-too-large``, and :class:`vhdtool.errors.MissingSupportError` ``defusedxml-missing``.
    """
    try:
        root = parse_xml(data, path=path)
    except DamagedError as error:
        raise DamagedError(
            "vm-config-damaged",
            error.message,
            path=path,
            hint="Copy the file again from the host, while the machine is off.",
        ) from error
    except RefusedError as error:
        raise InputError(
            "not-a-vm-config",
            error.message,
            path=path,
            expected=error.expected,
            found=error.found,
            hint="Hyper-V writes no such file: this is another one, or it was tampered with.",
        ) from error
    if root.name != ROOT:
        raise InputError(
            "not-a-vm-config",
            "the file is XML, but not the configuration of a machine",
            path=path,
            expected=f"<{ROOT}>",
            found=f"<{root.name[:40]}>",
            hint=r"Name the machine's file below Virtual Machines\: GUID.vmcx, or GUID.xml up to 2012 R2.",
        )
    return {ROOT: _node(root)}


def _node(element: XmlElement) -> ConfigNode:
    # the depth is bounded by the parser
    return {child.name: _value(child) for child in element.children}


def _value(element: XmlElement) -> ConfigNode | str | int | bool:
    kind = element.get("type")
    text = element.text.strip() if kind in {"integer", "bool"} else element.text
    if kind is None:
        return _node(element)
    if kind == "integer" and len(text) <= _INTEGER_DIGITS and text.removeprefix("-").isdecimal():
        return int(text)
    if kind == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return text
