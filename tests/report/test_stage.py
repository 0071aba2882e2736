"""What is staged, in the facts of the guests of an image."""

from __future__ import annotations

from tests.cli.changing import changed, image_in
from tests.cli.harness import run
from tests.staging.packages import write_package, write_root
from tests.tools import require_ntfs_writer
from vhdtool.image import open_image
from vhdtool.report.staged import with_staged


def test_guests_tell_what_is_staged_in_them(tmp_path):
    require_ntfs_writer()
    image = image_in(tmp_path, "windows-guest.vhdx")
    with open_image(image) as opened:
        assert [guest.staged for guest in with_staged(opened, opened.guests)] == [()]
    cab, root = write_package(tmp_path / "a.cab"), write_root(tmp_path)
    words = ("--cab", str(cab), "--trust-root", str(root), "--in-place", "--no-children")
    result = run("stage", str(image), *words, "--json")
    assert result.code == 0, result.stderr
    with open_image(image) as opened:
        before = opened.guests
        (guest,) = with_staged(opened, before)
    (staged,) = guest.staged
    assert (staged.id, staged.state) == (result.json["id"], "staged")
    assert guest.findings == before[0].findings
    changed("reg", "delete", image, rf"HKLM\SYSTEM\ControlSet001\Services\vhdtool-{staged.id}", "--in-place")
    with open_image(image) as opened:
        (guest,) = with_staged(opened, opened.guests)
    assert guest.staged[0].state == "never-ran"
    (finding,) = (one for one in guest.findings if one.code == "staged-not-applied")
    assert staged.id in (finding.fix or "")
