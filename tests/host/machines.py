"""Configurations of machines for tests, as trees; .vmcx by our own writer, .xml by xml.etree."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.host.storage_writer import storage

VM_ID = "282874FC-59D6-4F30-BC04-5FDD909C82E0"
IDE = "83f8638b-8dca-4152-9eda-2ca8b33039b4"
SCSI = "d422512d-2bf2-4752-809d-7b82b5fcb1b4"
SCSI_A = "73e0f0c5-c0bc-4e16-a458-0e1c388bfee3"
SCSI_B = "11111111-c0bc-4e16-a458-0e1c388bfee3"
HEARTBEAT = "84eaae65-2f2e-45f5-9bb5-0e857dc8eb47"
DATA_EXCHANGE = "2a34b1c2-fd73-4043-8a5b-dd2159bc743f"
SHUTDOWN = "9f8233ac-be49-4c79-8ee3-e7e1985b2077"
TIME = "2497f4de-e9fa-4204-80e4-4b75c46419c0"
VSS = "5ced1297-4598-4915-a5fc-ad21bb4d02a4"
GUEST_INTERFACE = "6c09bb55-d683-4da0-8931-c9bf705f6480"
RDV = "6c5addb9-a11a-4e8e-84cb-e6208201db63"
SERVICES = (GUEST_INTERFACE, HEARTBEAT, DATA_EXCHANGE, SHUTDOWN, TIME, VSS, RDV)


def drive(path: str, form: str = "VHD") -> dict[str, Any]:
    return {"type": form, "pathname": path, "weight": 100}


def machine(
    *disks: str,
    off: tuple[str, ...] = (GUEST_INTERFACE,),
    on: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    name: str = "Büro's VM",
    version: int = 0x900,
    subtype: int | None = 1,
    checkpoints: int = 0,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A machine with its disks on a SCSI controller; display names in another language, as a foreign host writes."""
    devices = [(service, service) for service in SERVICES if service not in without] + [(SCSI, SCSI_A)]
    config: dict[str, Any] = {}
    for device, instance in devices:
        section: dict[str, Any] = {"VDEVVersion": 256}
        if device in off or device in on:
            section["Enabled"] = device in on
        config[f"_{instance}_"] = section
    drives = {f"drive{at}": drive(path) for at, path in enumerate(disks)}
    if drives:
        config[f"_{SCSI_A}_"]["controller0"] = drives
    config["manifest"] = {
        "size": len(devices),
        **{
            f"vdev{at:03}": {"device": device, "instance": instance.upper(), "name": f"Gerät {at}", "flags": 1}
            for at, (device, instance) in enumerate(devices, 1)
        },
    }
    config["properties"] = {
        "global_id": VM_ID,
        "name": name,
        "type_id": "Virtual Machines",
        "version": version,
        **({} if subtype is None else {"subtype": subtype}),
    }
    config["global_settings"] = {"snapshots": {"list": {"size": checkpoints}}, "disk_merge_pending": False}
    config["settings"] = {"global": {"logical_id": VM_ID}}
    return {"configuration": config | (extra or {})}


def place_machine(folder: Path, tree: dict[str, Any], form: str = "vmcx", *, saved: bool | None = False) -> Path:
    """Write a configuration as Hyper-V lays it out below ``folder``; ``saved``: a .vmrs that says so, or none."""
    home = folder / "Virtual Machines"
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{VM_ID}.{form}"
    path.write_bytes(storage(tree) if form == "vmcx" else xml(tree))
    if form == "vmcx" and saved is not None:
        (home / f"{VM_ID}.VMRS").write_bytes(storage(runtime(saved=saved)))
    return path


def runtime(*, saved: bool) -> dict[str, Any]:
    """The runtime state of a machine."""
    tree: dict[str, Any] = {"configuration": {"properties": {"version": 0x900}}}
    if saved:
        tree["savedstate"] = {"VmVersion": 0x900, "RamMemoryBlock0": bytes(48), "savedVM": {"partition_state": b"x"}}
    return tree


def xml(tree: dict[str, Any], encoding: str = "utf-16") -> bytes:
    """The file as Hyper-V up to 2012 R2 writes it: UTF-16 with a byte order mark."""
    root = _element("configuration", tree["configuration"])
    ET.indent(root)
    return f'<?xml version="1.0" encoding="{encoding}"?>\n{ET.tostring(root, encoding="unicode")}'.encode(encoding)


def _element(name: str, value: Any) -> ET.Element:
    element = ET.Element(name)
    if isinstance(value, dict):
        element.extend(_element(child, below) for child, below in value.items())
        return element
    kind = {bool: "bool", int: "integer", str: "string", bytes: "bytes"}[type(value)]
    element.set("type", kind)
    element.text = value.hex() if isinstance(value, bytes) else str(value)
    return element
