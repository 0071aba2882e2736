from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

import pytest

from tests.cli.harness import run
from tests.report.conformity import assert_conforms
from vhdtool.disk.create_vhdx import Block, BlockState, Identity, write_vhdx

MIB = 1 << 20
PARENT = Identity(UUID(int=1), UUID(int=2), UUID(int=3))
CHILD = Identity(UUID(int=4), UUID(int=5), UUID(int=3))
LOCATOR = {
    "parent_linkage": "{00000000-0000-0000-0000-000000000002}",
    "relative_path": ".\\parent.vhdx",
}


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A child of 4 blocks: 0 of its own, 1 zeros, 2 the parent's, 3 nobody's."""
    write_vhdx(
        tmp_path / "parent.vhdx",
        virtual_size=4 * MIB,
        block_size=MIB,
        identity=PARENT,
        blocks={number: Block(data=bytes([number + 1]) * MIB) for number in range(3)},
    )
    write_vhdx(
        tmp_path / "child.avhdx",
        virtual_size=4 * MIB,
        block_size=MIB,
        identity=CHILD,
        kind="differencing",
        parent=LOCATOR,
        all_bitmaps=True,
        blocks={0: Block(data=b"\xaa" * MIB), 1: Block(BlockState.ZERO)},
    )
    return tmp_path / "child.avhdx"


def test_info_names_every_file_of_the_chain(chain):
    document = run("disk", "info", str(chain), "--json").json
    assert_conforms(document, "disk-info")
    assert [layer["type"] for layer in document["layers"]] == ["differencing", "dynamic"]
    assert document["layers"][0]["linkage"] == [str(PARENT.data_write)]
    assert document["layers"][1]["identity"] == str(PARENT.data_write)
    assert document["image"]["parents"] == [str(chain.parent / "parent.vhdx")]
    text = run("disk", "info", str(chain)).text
    assert "Virtual size     4.0 MiB (4194304 bytes)" in text
    assert f"{chain.parent / 'parent.vhdx'}  parent 1" in text


def test_map_tells_where_each_range_comes_from(chain):
    document = run("disk", "map", str(chain), "--json").json
    assert_conforms(document, "disk-map")
    told = [(extent["offset"], extent["length"], extent["kind"], extent["layer"]) for extent in document["extents"]]
    assert told == [(0, MIB, "data", 0), (MIB, MIB, "zero", 0), (2 * MIB, MIB, "data", 1), (3 * MIB, MIB, "hole", None)]
    own, _, parents, _ = document["extents"]
    for extent, byte in ((own, b"\xaa"), (parents, b"\x03")):
        with Path(document["files"][extent["layer"]]).open("rb") as file:
            file.seek(extent["file_offset"])
            assert file.read(MIB) == byte * MIB


def test_map_of_a_part(chain):
    document = run("disk", "map", str(chain), "--offset", str(MIB + 512), "--length", "1024", "--json").json
    assert [(extent["offset"], extent["length"]) for extent in document["extents"]] == [(MIB + 512, 1024)]
    assert run("disk", "map", str(chain), "--offset", str(5 * MIB)).code == 2


def test_verify_of_a_sound_chain(chain):
    result = run("disk", "verify", str(chain.parent / "parent.vhdx"), "--json")
    assert result.code == 0
    assert_conforms(result.json, "disk-verify")
    assert result.json["second_opinion"]["bytes_compared"] >= 3 * MIB


def test_verify_ends_1_where_something_is_wrong(chain):
    parent = chain.parent / "parent.vhdx"
    with parent.open("r+b") as file:  # the second copy of the region table, MS-VHDX 2.2.3
        file.seek(256 << 10)
        file.write(bytes(4096))
    result = run("disk", "verify", str(parent), "--json")
    assert result.code == 1
    assert_conforms(result.json, "disk-verify")
    assert result.json["verdict"] == "findings"
    assert run("disk", "verify", str(parent)).code == 1


def test_convert(chain, tmp_path):
    result = run("disk", "convert", str(chain), str(tmp_path / "out.raw"), "--json")
    assert result.code == 0
    assert_conforms(result.json, "disk-convert")
    assert (tmp_path / "out.raw").read_bytes() == b"\xaa" * MIB + bytes(MIB) + b"\x03" * MIB + bytes(MIB)
    assert result.json["data_bytes"] == 2 * MIB
    assert result.stderr == ""


def test_convert_overwrites_nothing(chain, tmp_path):
    before = hashlib.sha256(chain.read_bytes()).hexdigest()
    (tmp_path / "there").write_bytes(b"mine")
    assert run("disk", "convert", str(chain), str(tmp_path / "there")).code == 4
    assert run("disk", "convert", str(chain), str(chain)).code == 4
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert hashlib.sha256(chain.read_bytes()).hexdigest() == before


def test_convert_to_where_nothing_can_be_written_ends_7(chain, tmp_path):
    result = run("disk", "convert", str(chain), str(tmp_path / "absent" / "out.raw"))
    assert (result.code, "error[cannot-write]" in result.stderr) == (7, True)


def test_progress_is_drawn_on_a_terminal_only(chain, tmp_path):
    result = run("disk", "convert", str(chain), str(tmp_path / "out.raw"), terminal=True)
    assert "convert" in result.stderr
    assert "\x1b" in result.stderr


@pytest.mark.parametrize("command", ["info", "map", "verify"])
def test_a_failing_image_gives_an_error_document_and_a_message(tmp_path, command):
    (tmp_path / "disk.vhdx").write_bytes(b"vhdxfile" + bytes(1 << 16))
    result = run("disk", command, str(tmp_path / "disk.vhdx"), "--json")
    assert result.code == 3
    assert_conforms(result.json, f"disk-{command}")
    assert result.json["image"]["path"] == str(tmp_path / "disk.vhdx")
    assert f"error[{result.json['error']['code']}]" in result.stderr
    assert run("disk", command, str(tmp_path / "disk.vhdx")).stdout == b""


def test_a_missing_parent_can_be_named(chain, tmp_path):
    moved = tmp_path / "elsewhere" / "renamed.vhdx"
    moved.parent.mkdir()
    (tmp_path / "parent.vhdx").rename(moved)
    missing = run("disk", "info", str(chain))
    assert missing.code == 3
    assert "parent.vhdx" in missing.stderr
    assert run("disk", "info", str(chain), "--parent", str(moved)).code == 0


def test_output_can_not_overwrite_a_parent(chain, tmp_path):
    before = (tmp_path / "parent.vhdx").read_bytes()
    result = run("disk", "info", str(chain), "-o", f"json={tmp_path / 'parent.vhdx'}")
    assert result.code == 2
    assert (tmp_path / "parent.vhdx").read_bytes() == before
