from __future__ import annotations

import pytest

from tests.guest.fake_filesystem import FakeFilesystem
from tests.guest.guests import CONFIG, SELECT, WINDOWS_7, WINDOWS_11, Keys, guest, hive
from tests.guest.test_integration import PACKAGES, Contents, with_auto, with_file
from tests.guest.test_services import SERVICES, override, service, trigger
from vhdtool.errors import DamagedError, VhdtoolError
from vhdtool.guest.inspection import inspect_windows
from vhdtool.guest.model import Finding, Guest
from vhdtool.guest.source import GuestVolume
from vhdtool.guest.windows import find_windows
from vhdtool.knowledge.integration import integration_drivers, integration_services

SETUP: Keys = {"Setup": {"SystemSetupInProgress": 0, "SetupType": 0, "OOBEInProgress": 0, "CmdLine": ""}}
STATE = r"Microsoft\Windows\CurrentVersion\Setup\State"
POWER = r"ControlSet001\Control\Session Manager\Power"


def healthy(software: Keys) -> Contents:
    """A guest with nothing to find: every service and driver as its Windows has it."""
    windows = (6, 1, 7601) if software is WINDOWS_7 else (10, 0, 22631)
    contents = Contents(software={**software, STATE: {"ImageState": "IMAGE_STATE_COMPLETE"}})
    contents.system |= {**SETUP, SERVICES: {}}
    for row in (*integration_services(), *integration_drivers()):
        expected = row.expected(windows, with_package=True)
        assert expected is not None
        if windows >= row.offered_from:
            start = ("boot", "system", "auto", "manual", "disabled").index(expected.start)
            contents.system |= service(row.name, start)
            if row.trigger:
                contents.system |= trigger(row.name, row.trigger)
    with_auto(contents, (6, 3, 9600, 18692))
    return contents


def inspect(contents: Contents) -> Guest:
    return inspect_windows(guest(contents.system, contents.software, contents.files))


def findings(contents: Contents) -> dict[str, Finding]:
    return {finding.code: finding for finding in inspect(contents).findings}


def test_a_healthy_guest_has_every_fact_and_no_finding() -> None:
    contents = healthy(WINDOWS_7)
    contents.system[r"ControlSet001\Control\Session Manager\Environment"] = {"PROCESSOR_ARCHITECTURE": "AMD64"}
    contents.system[POWER] = {"HiberbootEnabled": 0}
    found = inspect(contents)
    assert found.volume == 2
    assert found.os.family == "windows"
    assert (found.os.product, found.os.version, found.os.edition) == ("Windows 7 Enterprise", "6.1.7601", "Enterprise")
    assert (found.os.architecture, found.os.install_state, found.os.control_set) == ("amd64", "complete", 1)
    assert (found.os.pending, found.os.fast_startup) == ((), False)
    assert found.integration_services.version == "6.3.9600.18692"
    assert [row.name for row in found.services] == [row.name for row in integration_services()]
    assert [row.name for row in found.drivers] == [row.name for row in integration_drivers()]
    assert {row.status for row in (*found.services, *found.drivers)} <= {"ok", "not-offered"}
    assert [fact.path for fact in found.hives] == [f"/{CONFIG}/SYSTEM", f"/{CONFIG}/SOFTWARE"]
    assert (found.staged, found.findings, found.all_services) == ((), (), None)


def test_a_healthy_windows_11_has_only_its_name_to_tell() -> None:
    contents = healthy(WINDOWS_11)
    assert findings(contents).keys() == {"product-name-corrected"}


def hibernate(contents: Contents) -> None:
    contents.files["hiberfil.sys"] = b"HIBR" + bytes(508)


def resumed(contents: Contents) -> None:
    contents.files["hiberfil.sys"] = b"wake" + bytes(508)


def reboot(contents: Contents) -> None:
    contents.software[PACKAGES.replace("Packages", "RebootPending")] = {}


def generalize(contents: Contents) -> None:
    contents.software[STATE] = {"ImageState": "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"}


def specialize(contents: Contents) -> None:
    contents.software[STATE] = {"ImageState": "IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE"}


def fast(contents: Contents) -> None:
    contents.system[POWER] = {"HiberbootEnabled": 1}


def replaced(contents: Contents) -> None:
    contents.files["Windows.old/Windows/System32/config/SYSTEM"] = b""


def no_version(contents: Contents) -> None:
    del contents.software[r"Microsoft\Virtual Machine\Auto"]


def conflict(contents: Contents) -> None:
    with_file(contents, (6, 2, 9200, 16384))


def broken_file(contents: Contents) -> None:
    contents.files["Windows/System32/icsvc.dll"] = b"MZ" + bytes(500)


def set_start(name: str, value: int) -> object:
    def change(contents: Contents) -> None:
        contents.system[rf"{SERVICES}\{name}"]["Start"] = value

    return change


def add_override(name: str) -> object:
    return lambda contents: contents.system.update(override(name, 3))


def remove(name: str) -> object:
    def change(contents: Contents) -> None:
        for path in [path for path in contents.system if f"{path}\\".startswith(f"{SERVICES}\\{name}\\")]:
            del contents.system[path]

    return change


def drop_trigger(contents: Contents) -> None:
    del contents.system[rf"{SERVICES}\vmicvss\TriggerInfo\0"]


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (hibernate, "hibernated", "high"),
        (resumed, None, None),
        (reboot, "servicing-pending", "medium"),
        (generalize, "image-generalized", "info"),
        (specialize, "image-not-complete", "medium"),
        (fast, "fast-startup-enabled", "info"),
        (replaced, "old-installation", "info"),
        (no_version, "integration-version-unknown", "medium"),
        (conflict, "integration-version-conflict", "medium"),
        (broken_file, "evidence-unreadable", "medium"),
        (set_start("vmickvpexchange", 4), "kvp-disabled", "medium"),
        (set_start("vmicvss", 4), "service-disabled", "medium"),
        (set_start("vmicvss", 2), "service-wrong-start", "low"),
        (remove("vmicvss"), "service-missing", "medium"),
        (drop_trigger, "service-no-trigger", "medium"),
        (add_override("vmbus"), "boot-driver-overridden", "high"),
        (add_override("bttflt"), "boot-driver-overridden", "low"),
        (set_start("storvsc", 3), "boot-driver-not-boot-start", "high"),
        (remove("vmbus"), "boot-driver-missing", "high"),
    ],
)
def test_each_thing_wrong_is_the_one_finding(change: object, code: str | None, severity: str | None) -> None:
    contents = healthy(WINDOWS_11)
    change(contents)  # type: ignore[operator]
    found = findings(contents)
    del found["product-name-corrected"]
    assert found.keys() == ({code} if code else set())
    if code:
        assert found[code].severity == severity
        assert found[code].fix is not None or code == "evidence-unreadable"


def test_a_guest_without_integration_services_gets_one_finding_for_all() -> None:
    contents = Contents(software=dict(WINDOWS_7))
    contents.system |= {**SETUP, SERVICES: {}, **service("vmbus", 0), **service("storvsc", 3), **service("storflt", 0)}
    contents.system |= {**service("VMBusHID", 3), **service("s3cap", 3)}
    assert findings(contents).keys() == {"integration-version-unknown", "integration-services-not-installed"}


@pytest.mark.parametrize("broken", ["SYSTEM", "SOFTWARE"])
@pytest.mark.parametrize("how", ["absent", "damaged", "unreadable"])
def test_one_hive_that_can_not_be_read_leaves_the_facts_of_the_other(broken: str, how: str) -> None:
    contents: dict[str, bytes | VhdtoolError] = {
        f"{CONFIG}/SYSTEM": hive({**SELECT, **SETUP, SERVICES: {}, **service("vmbus", 0)}),
        f"{CONFIG}/SOFTWARE": hive(WINDOWS_7),
    }
    if how == "absent":
        del contents[f"{CONFIG}/{broken}"]
    elif how == "damaged":
        contents[f"{CONFIG}/{broken}"] = b"no hive" * 1000
    else:
        contents[f"{CONFIG}/{broken}"] = DamagedError("run-damaged", "a run is broken")
    (installation,) = find_windows([GuestVolume(0, FakeFilesystem(contents))])
    found = inspect_windows(installation, all_services=True)
    assert any(f"the {broken} hive" in finding.message for finding in found.findings)
    if broken == "SYSTEM":
        assert (found.os.version, found.os.control_set, found.services, found.all_services) == (
            "6.1.7601",
            None,
            (),
            (),
        )
    else:
        assert (found.os.version, found.os.control_set) == (None, 1)
        assert next(row for row in found.drivers if row.name == "vmbus").start == "boot"


def test_without_any_hive_the_error_is_raised() -> None:
    files = {f"{CONFIG}/SYSTEM": b"no hive" * 1000, f"{CONFIG}/SOFTWARE": b"no hive" * 1000}
    (installation,) = find_windows([GuestVolume(0, FakeFilesystem(files))])
    with pytest.raises(VhdtoolError) as caught:
        inspect_windows(installation)
    assert f"/{CONFIG}/SYSTEM" in str(caught.value)
