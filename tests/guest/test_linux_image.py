"""The facade on disks with a Linux: which guests there are, and how one is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.guest.fake_filesystem import FakeFilesystem
from tests.guest.linux_filesystem import LinuxFilesystem
from tests.guest.linux_guests import RELEASE, debian
from vhdtool.errors import DamagedError, InputError, UsageError, VhdtoolError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.image import Image, RecordedFilesystem
from vhdtool.knowledge.linux_daemons import linux_daemons, linux_helpers
from vhdtool.knowledge.linux_modules import hyperv_modules
from vhdtool.volume.partitions import Volume, VolumeTable


def image(*filesystems: GuestFilesystem | VhdtoolError) -> Image:
    kinds = ["ntfs" if isinstance(one, FakeFilesystem) else "ext" for one in filesystems]
    volumes = [Volume(at, 0, 0, "mbr", "0x83", None, "data", filesystem=kind) for at, kind in enumerate(kinds)]
    found = Image(SimpleNamespace(), "disk.raw")  # type: ignore[arg-type]  # nothing of the disk is asked for
    found.__dict__["volume_table"] = VolumeTable("mbr", "1234abcd", tuple(volumes), ())
    for at, one in enumerate(filesystems):
        found._filesystems[at] = one if isinstance(one, VhdtoolError) else RecordedFilesystem(one, at, found._opened)
    return found


def windows() -> FakeFilesystem:
    return FakeFilesystem({"Windows/System32/config/SYSTEM": b"", "Windows/System32/config/SOFTWARE": b""})


def linux() -> LinuxFilesystem:
    return LinuxFilesystem(debian())


def test_a_linux_is_a_guest():
    found = image(LinuxFilesystem({"home/a": ""}), linux())
    (guest,) = found.guests
    assert (guest.volume, guest.os.version) == (1, RELEASE)
    assert [volume.role for volume in found.volumes] == ["data", "os"]
    assert found.findings == ()
    assert found.system().root == "/"
    assert ("/var/lib/dpkg/status", 1) in {(one.path, one.volume) for one in found.opened_files}


def test_a_question_to_a_windows_is_none_to_a_linux():
    for index in (None, 0):
        with pytest.raises(InputError) as caught:
            image(linux()).installation(index)
        assert caught.value.code == "linux-guest"
    with pytest.raises(InputError) as caught:
        image(LinuxFilesystem({"a": ""})).system()
    assert caught.value.code == "no-guest"


def test_guests_are_counted_every_windows_first():
    found = image(linux(), windows(), linux())
    assert [(one.volume_index, one.root) for one in found.systems] == [(1, "/Windows"), (0, "/"), (2, "/")]
    assert found.installation().volume_index == found.installation(0).volume_index == 1
    assert found.system(2).volume_index == 2
    with pytest.raises(UsageError) as caught:
        found.system()
    assert caught.value.code == "ambiguous-guest"
    assert "--guest 2: / on volume 2" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        found.system(3)
    assert caught.value.code == "no-such-guest"
    with pytest.raises(InputError) as refused:
        found.installation(2)
    assert refused.value.code == "linux-guest"


def test_a_volume_that_can_not_be_read_is_told_and_passed_over():
    found = image(DamagedError("filesystem-damaged", "broken"), linux())
    assert [guest.volume for guest in found.guests] == [1]
    assert [finding.code for finding in found.findings] == ["volume-unreadable"]
    alone = image(DamagedError("filesystem-damaged", "broken"))
    with pytest.raises(DamagedError):
        alone.system()
    assert {finding.code for finding in alone.findings} == {"volume-unreadable", "no-guest"}


def test_what_is_known_of_modules_and_daemons_has_its_source():
    names = [module.name for module in hyperv_modules()]
    assert len(names) == len(set(names))
    for module in hyperv_modules():
        assert module.path.rpartition("/")[2].replace("-", "_") == module.name
        assert len(module.source) > 8
        assert module.config
    assert {module.name for module in hyperv_modules() if module.boots} == {"hv_vmbus", "hv_storvsc"}
    assert [daemon.name for daemon in linux_daemons() if daemon.serves((6, 9))][-1] == "hv_fcopy_daemon"
    assert [daemon.name for daemon in linux_daemons() if daemon.serves((6, 10))][-1] == "hv_fcopy_uio_daemon"
    assert linux_helpers() == ("hv_get_dhcp_info", "hv_get_dns_info", "hv_set_ifconfig")
