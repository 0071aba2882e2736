from __future__ import annotations

import pytest

from tests.guest.fake_filesystem import FakeFilesystem
from vhdtool.guest.linux_advice import linux_advice
from vhdtool.knowledge.linux_daemons import linux_daemons

UBUNTU = b'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n'
ROCKY = b'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
KVP = [("Key-Value Pair Exchange", "auto")]


def linux(release: bytes, *units: str, path: str = "etc/os-release") -> FakeFilesystem:
    return FakeFilesystem({path: release, **{f"usr/lib/systemd/system/{unit}.service": b"" for unit in units}})


@pytest.mark.parametrize("unit", ["hv-kvp-daemon", "hypervkvpd", "hv_kvp_daemon", "hyperv-daemons.hv-kvp-daemon"])
def test_the_unit_that_the_guest_has(unit: str) -> None:
    assert linux_advice(linux(UBUNTU, unit), KVP) == f"systemctl enable {unit}"
    assert linux_advice(linux(UBUNTU, unit), [("vmickvpexchange", "disabled")]) == f"systemctl disable {unit}"


@pytest.mark.parametrize(
    ("release", "package", "unit"),
    [
        (UBUNTU, "the package linux-cloud-tools-virtual", "hv-kvp-daemon"),
        (b"ID=debian\n", "the package hyperv-daemons", "hv-kvp-daemon"),
        (ROCKY, "the package hyperv-daemons", "hypervkvpd"),
        (b'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "the package hyper-v", "hv_kvp_daemon"),
        (b"ID=arch\n", "the package hyperv", "hv_kvp_daemon"),
        (b"ID=other\n", "the package with the Hyper-V daemons", "hv_kvp_daemon"),
        (b"\xff\xfe broken", "the package with the Hyper-V daemons", "hv_kvp_daemon"),
    ],
)
def test_a_daemon_that_is_not_installed(release: bytes, package: str, unit: str) -> None:
    assert linux_advice(linux(release), KVP) == f"install {package}, then: systemctl enable {unit}"


def test_what_is_in_the_kernel_has_no_service() -> None:
    advice = linux_advice(linux(UBUNTU, "hv-vss-daemon"), [("Heartbeat", "auto"), ("VSS", "auto"), ("other", "auto")])
    assert advice == (
        "Heartbeat: in the kernel (module hv_utils), with no service to set; systemctl enable hv-vss-daemon; "
        "other is no daemon of Hyper-V"
    )


@pytest.mark.parametrize("name", ["hv_kvp_daemon", "hypervkvpd", "hypervkvpd.service", "vmickvpexchange"])
def test_a_daemon_is_known_by_its_own_names_too(name: str) -> None:
    assert linux_advice(linux(ROCKY, "hypervkvpd"), [(name, "auto")]) == "systemctl enable hypervkvpd"


def test_without_requests_all_daemons_are_told() -> None:
    advice = linux_advice(linux(ROCKY, "hypervkvpd", "hypervvssd", "hypervfcopyd", path="usr/lib/os-release"))
    assert advice == "systemctl enable hypervkvpd; systemctl enable hypervvssd; systemctl enable hypervfcopyd"


def test_no_linux() -> None:
    assert linux_advice(FakeFilesystem({"Windows/System32/config/SYSTEM": b""}), KVP) is None


def test_every_daemon_names_its_source() -> None:
    assert all(len(daemon.source) > 8 for daemon in linux_daemons())
    units = [unit for daemon in linux_daemons() for unit in daemon.units]
    assert all(unit.endswith(".service") for unit in units)
    names = [daemon.name for daemon in linux_daemons()]
    assert len(names) == len(set(names)) == 4
