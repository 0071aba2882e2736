"""Our tables against the INF files and the manifest of a genuine integration services package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.data_files import data_file
from tests.tools import require_tool, run
from vhdtool.knowledge.integration import integration_devices, integration_drivers, integration_services
from vhdtool.knowledge.service_triggers import stored_triggers

pytestmark = [pytest.mark.oracle, pytest.mark.data]

CAB = "cab/marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab"
STARTS = {"0": "boot", "1": "system", "2": "auto", "3": "manual", "4": "disabled"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    run(require_tool("cabextract"), "-q", "-d", str(folder), str(data_file(CAB)))
    return folder


def infs(package: Path) -> Iterator[tuple[str, str]]:
    for path in package.glob("*/*.inf"):
        data = path.read_bytes()
        text = data.decode("utf-16" if data[:2] == b"\xff\xfe" else "latin-1")
        yield path.name, "\n".join(line.partition(";")[0].rstrip() for line in text.splitlines())


def test_each_vmbus_device_of_the_package_is_in_the_table_with_its_inf(package: Path) -> None:
    table = {device.hardware_id.upper(): device.packages for device in integration_devices()}
    unlisted = {r"VMBUS\SUBCHANNEL"}  # a helper of the bus, of the same package
    compared = set()
    for name, text in infs(package):
        for found in re.findall(r"=\s*\w+\s*,\s*((?:VMBUS|ACPI)\\[^\s,]+)", text, re.IGNORECASE):
            hardware_id = found.upper()
            if hardware_id in unlisted:
                continue
            assert name in table[hardware_id], (name, hardware_id)
            compared.add(hardware_id)
    assert len(compared) >= len(table) - 1


def test_each_driver_of_the_package_starts_as_the_table_says(package: Path) -> None:
    table = {driver.name.lower(): driver for driver in integration_drivers()}
    compared = set()
    for _, text in infs(package):
        for name, section in re.findall(r'^AddService\s*=\s*"?(\w+)"?\s*,[^,\n]*,\s*([\w.]+)', text, re.MULTILINE):
            body = re.search(
                rf"^\[{re.escape(section)}\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE | re.IGNORECASE
            )
            start = re.search(r"^StartType\s*=\s*(\S+)", body[1], re.MULTILINE) if body else None
            driver = table.get(name.lower())
            if start is None or driver is None:
                continue
            value = start[1]
            constant = re.search(rf"^{re.escape(value.strip('%'))}\s*=\s*(\S+)", text, re.MULTILINE)
            number = str(int(constant[1] if constant else value, 0))
            expected = driver.expected((6, 3, 9600), with_package=False)
            assert expected is not None
            assert expected.start == STARTS[number], name
            compared.add(driver.name)
    assert {"vmbus", "storvsc", "storflt", "netvsc", "hyperkbd", "VMBusHID", "dmvsc", "s3cap"} <= compared


def test_each_service_of_the_manifest_has_the_trigger_and_the_start_of_the_table(package: Path) -> None:
    manifest = next(package.glob("amd64_microsoft-hyper-v-integration-services_*.manifest")).read_text("utf-8")
    found = re.findall(
        r'<serviceData name="(vmic\w+)".*?start="(\w+)".*?<serviceTrigger[^>]*subtype="\{([0-9A-Fa-f-]{36})\}"',
        manifest,
        re.DOTALL,
    )
    table = {service.name: service for service in integration_services()}
    for name, start, trigger in found:
        expected = table[name].expected((6, 3, 9600), with_package=False)
        assert expected is not None
        assert (start, expected.start, expected.trigger) == ("demand", "manual", True)
        assert table[name].trigger == trigger.lower()
    assert {name for name, _, _ in found} == table.keys() - {"vmicvmsession"}


def test_the_recorded_triggers_of_windows_8_1_are_those_of_the_manifest(package: Path) -> None:
    (manifest,) = package.glob("amd64_microsoft-hyper-v-integration-services_*_6.3.9600.18398_*.manifest")
    found = re.findall(
        r'<serviceData name="(vmic\w+)".*?<serviceTrigger[^>]*action="start"[^>]*subtype="\{([0-9A-Fa-f-]{36})\}"'
        r'[^>]*type="DeviceInterfaceArrival"',
        manifest.read_text(encoding="utf-8-sig"),
        re.DOTALL,
    )
    assert len(found) == 7
    for name, guid in found:
        recorded = stored_triggers(name, (6, 3, 9600))
        assert recorded is not None
        assert [(one.action, one.type, one.guid) for one in recorded] == [(1, 1, UUID(guid).bytes_le)]
