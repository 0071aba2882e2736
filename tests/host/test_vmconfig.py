"""The facts of a machine's configuration, from .vmcx, .vmrs and .xml."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from dissect.hypervisor.descriptor.hyperv import HyperVFile

from tests.data_files import data_file
from tests.host.machines import (
    DATA_EXCHANGE,
    GUEST_INTERFACE,
    HEARTBEAT,
    IDE,
    RDV,
    SCSI,
    SCSI_A,
    SCSI_B,
    VM_ID,
    VSS,
    drive,
    machine,
    place_machine,
    runtime,
    xml,
)
from tests.host.storage_writer import resealed, storage
from vhdtool.errors import DamagedError, InputError, UnsupportedError
from vhdtool.host.vmconfig import AttachedDisk, VmConfig, read_vm_config


def states(config: VmConfig) -> dict[str, str]:
    return {one.service: one.state for one in config.services}


@pytest.mark.parametrize("form", ["vmcx", "xml"])
def test_the_facts_of_a_machine(tmp_path, form):
    tree = machine(
        r"D:\vm\a.vhdx", r"D:\vm\b.vhdx", off=(GUEST_INTERFACE, HEARTBEAT), on=(VSS,), without=(DATA_EXCHANGE,)
    )
    config = read_vm_config(place_machine(tmp_path, tree, form))
    assert (config.format, config.name, config.id, config.generation, config.version) == (
        form,
        "Büro's VM",
        VM_ID,
        2,
        "9.0",
    )
    assert states(config) == {
        "vmicheartbeat": "off",
        "vmickvpexchange": "absent",
        "vmicshutdown": "on",
        "vmictimesync": "on",
        "vmicvss": "on",
        "vmicguestinterface": "off",
        "vmicrdv": "on",
        "vmicvmsession": "no-switch",
    }
    heartbeat = next(one for one in config.services if one.service == "vmicheartbeat")
    assert (heartbeat.id, heartbeat.location) == (HEARTBEAT, f"/configuration/_{HEARTBEAT}_/Enabled")
    assert config.disks == (
        AttachedDisk("SCSI", 0, 0, "VHD", r"D:\vm\a.vhdx"),
        AttachedDisk("SCSI", 0, 1, "VHD", r"D:\vm\b.vhdx"),
    )
    assert (config.saved_state.answer, config.checkpoints.count, config.merge_pending) == ("no", 0, False)
    assert (config.is_checkpoint, config.problems) == (False, ())


def test_services_are_matched_by_their_ids_alone(tmp_path):
    tree = machine(off=(VSS,))
    manifest = tree["configuration"]["manifest"]
    for at, row in enumerate(value for value in manifest.values() if isinstance(value, dict)):
        row["name"] = "Microsoft Heartbeat Component" if at % 2 else "하트비트"
        row["device"] = "{" + row["device"].upper() + "}"
    assert states(read_vm_config(place_machine(tmp_path, tree)))["vmicvss"] == "off"
    assert list(states(read_vm_config(place_machine(tmp_path, tree))).values()).count("off") == 1


def test_several_controllers(tmp_path):
    tree = machine()
    config = tree["configuration"]
    config[f"_{IDE}_"] = {
        "controller0": {"drive0": drive(r"C:\boot.vhd"), "drive1": drive("", "NONE")},
        "controller1": {"drive0": drive(r"C:\tools.iso", "ISO"), "drive1": drive(r"C:\data.vhd")},
    }
    config[f"_{SCSI_A}_"]["controller0"] = {"drive10": drive("c"), "drive2": drive("b"), "drivex": drive("no")}
    config[f"_{SCSI_B}_"] = {"controller0": {"drive0": drive(r"\\.\PHYSICALDRIVE1", "PHYSICAL")}}
    config["manifest"]["vdev100"] = {"device": SCSI, "instance": SCSI_B}
    config["_22222222-c0bc-4e16-a458-0e1c388bfee3_"] = {"controller0": {"drive0": drive("new kind")}}
    found = [
        (one.controller, one.controller_number, one.location, one.path)
        for one in read_vm_config(place_machine(tmp_path, tree)).disks
    ]
    assert found == [
        ("SCSI", 0, 2, "b"),
        ("SCSI", 0, 10, "c"),
        ("SCSI", 1, 0, r"\\.\PHYSICALDRIVE1"),
        ("IDE", 0, 0, r"C:\boot.vhd"),  # the manifest does not name it, as in the .xml of 2012 R2
        ("IDE", 1, 1, r"C:\data.vhd"),
        ("unknown", 0, 0, "new kind"),
    ]


@pytest.mark.parametrize(
    ("version", "subtype", "expected"),
    [(0x900, 0, (1, "9.0")), (0x500, 1, (2, "5.0")), (0x400, None, (1, "4.0")), (0x900, None, (None, "9.0"))],
)
def test_generation_and_version(tmp_path, version, subtype, expected):
    config = read_vm_config(place_machine(tmp_path, machine(version=version, subtype=subtype)))
    assert (config.generation, config.version) == expected


def test_a_configuration_without_manifest_goes_by_its_sections(tmp_path):
    tree = machine(off=(VSS,), without=(RDV,))
    del tree["configuration"]["manifest"]
    found = states(read_vm_config(place_machine(tmp_path, tree, "xml")))
    assert (found["vmicvss"], found["vmicheartbeat"], found["vmicrdv"]) == ("off", "on", "absent")


def test_values_of_other_kinds_are_unknown_not_a_crash(tmp_path):
    tree = machine()
    tree["configuration"]["properties"] = {"name": 5, "global_id": "no id", "version": "9", "subtype": True}
    tree["configuration"][f"_{VSS}_"] = {"Enabled": "perhaps"}
    tree["configuration"]["global_settings"] = "none"
    tree["configuration"]["manifest"]["vdev900"] = {"device": 7}
    config = read_vm_config(place_machine(tmp_path, tree))
    assert (config.name, config.id, config.generation, config.version) == (None, None, None, None)
    assert (config.checkpoints.count, config.merge_pending, states(config)["vmicvss"]) == (None, None, "on")
    bare = read_vm_config(place_machine(tmp_path, {"configuration": {"manifest": {"size": 0}}}))
    assert bare.disks == ()
    assert set(states(bare).values()) == {"absent", "no-switch"}


def test_a_runtime_state(tmp_path):
    path = tmp_path / "a.vmrs"
    path.write_bytes(storage(runtime(saved=True)))
    config = read_vm_config(path)
    assert (config.format, config.version, config.services, config.saved_state.answer) == ("vmrs", "9.0", (), "yes")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x00" * 20000])
def test_other_files(tmp_path, content):
    path = tmp_path / "a.vmcx"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_vm_config(path)
    assert caught.value.code == "not-a-vm-config"
    with pytest.raises(InputError) as caught:
        read_vm_config(tmp_path / "absent.vmcx")
    assert caught.value.code == "cannot-open"
    with pytest.raises(InputError) as caught:
        read_vm_config(tmp_path)
    assert caught.value.code in {"is-a-directory", "cannot-open"}


@pytest.mark.data
def test_the_real_machine_reads_as_dissects_keys_say():
    path = data_file("vmconfig/fox-it__dissect.hypervisor/test.vmcx")
    with path.open("rb") as file:
        keys = HyperVFile(file).as_dict()["configuration"]
    config = read_vm_config(path)
    properties = keys["properties"]
    assert (config.name, config.id) == (properties["name"], properties["global_id"])
    assert (config.generation, config.version) == (properties["subtype"] + 1, "9.0")
    assert properties["version"] == 0x900
    drives = keys[f"_{IDE}_"]["controller0"]["drive0"]
    assert config.disks == (AttachedDisk("IDE", 0, 0, drives["type"], drives["pathname"]),)
    assert config.checkpoints.count == keys["global_settings"]["snapshots"]["list"]["size"]
    assert config.merge_pending is keys["global_settings"]["disk_merge_pending"]
    devices = {row["device"] for name, row in keys["manifest"].items() if name.startswith("vdev")}
    for service in config.services:
        if service.id is None:
            assert service.service == "vmicvmsession"
            continue
        assert service.id in devices
        assert service.state == ("on" if keys[f"_{service.id}_"].get("Enabled", True) else "off")
    assert states(config)["vmicguestinterface"] == "off"
    assert config.saved_state.answer == "no", "test.VMRS beside it"


@pytest.mark.data
def test_values_changed_in_the_real_machine(tmp_path):
    source = data_file("vmconfig/fox-it__dissect.hypervisor/test.vmcx").read_bytes()
    data = bytearray(source)
    place = source.index(b"Enabled\0") + 8
    assert struct.unpack_from("<I", source, place) == (0,)
    struct.pack_into("<I", data, place, 1)
    path = tmp_path / "a.vmcx"
    path.write_bytes(data)
    with pytest.raises(DamagedError) as caught:
        read_vm_config(path)
    assert caught.value.code == "vm-config-damaged"
    path.write_bytes(resealed(bytes(data)))
    assert states(read_vm_config(path))["vmicguestinterface"] == "on"
    assert read_vm_config(path).saved_state.answer == "unknown", "no .vmrs is beside it"


@pytest.mark.data
@pytest.mark.parametrize("name", ["test.vmcx", "test.VMRS"])
def test_damaged_copies_of_real_files(tmp_path, name):
    source = data_file(f"vmconfig/fox-it__dissect.hypervisor/{name}").read_bytes()
    path = tmp_path / name
    for at in (0x3000, 0x3010, 0x7002, 0x2008, 0x2009):
        damaged = bytearray(source)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(DamagedError) as caught:
            read_vm_config(path)
        assert (caught.value.code, caught.value.path) == ("vm-config-damaged", str(path)), hex(at)
        assert caught.value.offset is not None
        assert caught.value.hint
    for length in (5000, 0x2100, 0x3800, 0x7001):
        path.write_bytes(source[:length])
        with pytest.raises(DamagedError) as caught:
            read_vm_config(path)
        assert caught.value.code in {"truncated", "vm-config-damaged"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig"])
def test_encodings_of_the_old_format(tmp_path, encoding):
    path = tmp_path / "a.xml"
    path.write_bytes(xml(machine(name="하트비트"), "utf-8" if encoding == "utf-8-sig" else encoding))
    if encoding == "utf-8-sig":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    config = read_vm_config(path)
    assert (config.format, config.name) == ("xml", "하트비트")


def test_xml_that_is_something_else(tmp_path):
    path = tmp_path / "a.xml"
    for content, code in (
        (b"<project/>", "not-a-vm-config"),
        (b"<configuration><manifest>", "vm-config-damaged"),
        (b'<!DOCTYPE c [<!ENTITY a "b">]><configuration>&a;</configuration>', "not-a-vm-config"),
        (b"<configuration>" + b"<a>" * 100 + b"</a>" * 100 + b"</configuration>", "not-a-vm-config"),
        (b"<" + b" " * (17 << 20), "vm-config-too-large"),
        (xml(machine())[:-40], "vm-config-damaged"),
        (b"\xff\xfe<\x00\xff", "vm-config-damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_vm_config(path)
        assert caught.value.code == code, content[:40]
        assert caught.value.hint
        assert "package" not in (caught.value.hint or "")


def test_the_version_of_the_container(tmp_path):
    path = tmp_path / "a.vmcx"
    path.write_bytes(storage(machine(), version=0x301))
    with pytest.raises(UnsupportedError):
        read_vm_config(Path(path))
