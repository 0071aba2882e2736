"""The virtual devices, against the manifest of a real machine."""

from __future__ import annotations

import pytest
from dissect.hypervisor.descriptor.hyperv import HyperVFile

from tests.data_files import data_file
from vhdtool.knowledge.integration import integration_services
from vhdtool.knowledge.virtual_devices import disk_controllers, host_components

MANIFEST_NAMES = {
    "vmicheartbeat": "Microsoft Heartbeat Component",
    "vmickvpexchange": "Microsoft Key-Value Pair Exchange Component",
    "vmicshutdown": "Microsoft Shutdown Component",
    "vmictimesync": "Microsoft Time Synchronization Component",
    "vmicvss": "Microsoft VSS Component",
    "vmicguestinterface": "Microsoft Guest Interface Component",
    "vmicrdv": "Microsoft RDV Component",
}
CONTROLLER_NAMES = {
    "IDE": "Microsoft Emulated IDE Controller",
    "SCSI": "Synthetic SCSI Controller",
    "Floppy": "Microsoft Emulated Floppy Controller",
}


def test_every_integration_service_has_a_row():
    assert [one.service for one in host_components()] == [one.name for one in integration_services()]
    assert [one.service for one in host_components() if not one.switch] == ["vmicrdv", "vmicvmsession"]
    assert [one.service for one in host_components() if one.off_by_default] == ["vmicguestinterface"]
    ids = [one.id for one in host_components() if one.id is not None]
    assert len(set(ids)) == len(ids) == 7


@pytest.mark.data
def test_the_ids_are_those_of_a_real_machine():
    with data_file("vmconfig/fox-it__dissect.hypervisor/test.vmcx").open("rb") as file:
        manifest = HyperVFile(file).as_dict()["configuration"]["manifest"]
    names = {row["device"]: row["name"] for name, row in manifest.items() if name.startswith("vdev")}
    assert {one.service: names[one.id] for one in host_components() if one.id} == MANIFEST_NAMES
    assert {kind: names[identity] for identity, kind in disk_controllers().items()} == CONTROLLER_NAMES
