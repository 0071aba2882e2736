"""The facade: each step taken when it is asked for, and the errors of choosing a guest."""

from __future__ import annotations

import pytest

import vhdtool
from tests.cli.images import bitlocker_volume, mbr_disk, windows_volume
from tests.fixtures import fixture_file
from vhdtool.errors import InputError, RefusedError, UsageError


def test_the_promised_line_of_python():
    with vhdtool.open_image(fixture_file("demo.vhdx")) as image:
        assert image.guests[0].integration_services.version == "6.3.9600.18692"
        assert {service.name: service.effective_start for service in image.guests[0].services}["vmicvss"] == "manual"


def test_roles_are_refined_by_what_is_found():
    with vhdtool.open_image(fixture_file("windows-guest.vhdx")) as image:
        assert [volume.role for volume in image.volumes] == ["esp", "msr", "os"]
        assert image.label(2) == "Windows"
        assert image.state(2).dirty is False


def test_opening_reads_no_volume_and_the_version_little():
    with vhdtool.open_image(fixture_file("windows-guest.vhdx")) as image:
        opened = image.disk.bytes_read
        assert opened < 1 << 20
        assert image.opened_files == ()
        assert image.installations
        assert image.disk.bytes_read - opened < 1 << 20


def test_files_that_were_opened_are_remembered_once_and_as_the_guest_spells_them():
    with vhdtool.open_image(fixture_file("windows-guest.vhdx")) as image:
        filesystem = image.filesystem(2)
        filesystem.open("\\windows\\SYSTEM32\\config\\system")
        filesystem.open("/Windows/System32/config/SYSTEM")
        assert [(file.volume, file.path) for file in image.opened_files] == [(2, "/Windows/System32/config/SYSTEM")]


def test_no_such_volume_and_guest():
    with vhdtool.open_image(fixture_file("windows-guest.vhdx")) as image:
        with pytest.raises(UsageError, match="no volume 7") as caught:
            image.filesystem(7)
        assert "0, 1, 2" in (caught.value.hint or "")
        with pytest.raises(UsageError, match="no guest 1"):
            image.installation(1)


def test_choosing_among_two(tmp_path):
    path = mbr_disk(tmp_path / "two.raw", [windows_volume(), windows_volume()])
    with vhdtool.open_image(path) as image:
        with pytest.raises(UsageError) as caught:
            image.installation()
        assert caught.value.code == "ambiguous-guest"
        assert image.installation(1).volume_index == 1
        assert [volume.role for volume in image.volumes] == ["os", "os"]


def test_an_encrypted_volume_is_refused_only_where_no_guest_is(tmp_path):
    with vhdtool.open_image(mbr_disk(tmp_path / "one.raw", [bitlocker_volume()])) as image:
        with pytest.raises(RefusedError):
            image.installation()
        assert image.guests == ()
        assert {finding.code for finding in image.findings} == {"volume-encrypted", "no-guest"}
    with vhdtool.open_image(mbr_disk(tmp_path / "two.raw", [windows_volume(), bitlocker_volume()])) as image:
        assert image.installation().volume_index == 0


def test_a_raw_file_without_any_structure_is_no_disk(tmp_path):
    (tmp_path / "zeros.img").write_bytes(bytes(1 << 20))
    with vhdtool.open_image(tmp_path / "zeros.img") as image, pytest.raises(InputError) as caught:
        image.volumes  # noqa: B018  # asking is enough
    assert caught.value.code == "not-a-disk"


def test_closing_twice_is_closing_once():
    image = vhdtool.open_image(fixture_file("windows-guest.vhdx"))
    image.close()
    image.close()


def test_unknown_names_of_the_package():
    with pytest.raises(AttributeError):
        vhdtool.nonsense  # noqa: B018  # asking is enough
