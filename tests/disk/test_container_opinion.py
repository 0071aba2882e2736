"""What foreign readers must say before a commit: of each changed byte, and of a sample of the others."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from tests.disk import vhd_files
from tests.disk.candidates import MIB, Patched, child_of, flipped, replaced
from tests.disk.test_convert import Listener
from tests.disk.vhd_files import WHOLE, open_disk
from tests.disk.vhdx_files import IDENTITY, make, pattern
from tests.fuzz.vhd_images import DIFFERENCING, FIXED
from vhdtool.bytesource import BytesSource
from vhdtool.disk.commit import Candidate
from vhdtool.disk.container_opinion import confirm_container
from vhdtool.disk.create_vhdx import Block
from vhdtool.disk.expected_disk import ExpectedDisk
from vhdtool.disk.overlay import Overlay
from vhdtool.disk.vhdx_format import BlockState
from vhdtool.errors import DamagedError, InputError, OpinionError

pytest.importorskip("pyvhdi")
pytest.importorskip("dissect.hypervisor")
CHANGES = {5 * 512: bytes([1]) * 512, 2 * MIB + 4096: bytes([2]) * 8192, 7 * MIB + 512: bytes([3]) * 512}
CHANGED = sum(map(len, CHANGES.values()))


@pytest.fixture
def overlay(tmp_path):
    path = tmp_path / "base.vhdx"
    blocks = {number: Block(data=pattern(number, MIB)) for number in (0, 2, 5, 7)}
    make(path, virtual_size=8 * MIB, blocks=blocks)
    with open_disk(path) as disk, Overlay(disk) as over:
        for offset, data in CHANGES.items():
            over.write_at(offset, data)
        yield over


def refused(candidate, changes, code="second-opinion-container", **wanted):
    with pytest.raises(OpinionError) as caught:
        confirm_container(candidate, changes, **{"seed": 1, **wanted})
    assert caught.value.code == code
    assert caught.value.exit_code == 7
    assert caught.value.hint
    return caught.value.message


def test_a_child_is_confirmed(overlay, tmp_path):
    listener = Listener()
    verdict = confirm_container(child_of(overlay, tmp_path / "c.vhdx"), overlay, seed=1, progress=listener)
    assert verdict.changed_bytes == CHANGED
    assert verdict.sampled_bytes > 200_000
    assert verdict.confirmed_bytes == CHANGED + verdict.sampled_bytes
    assert (verdict.unconfirmed, verdict.unconfirmed_bytes, verdict.unreadable_samples) == ((), 0, 0)
    assert [report.reader for report in verdict.readers][:1] == ["pyvhdi"]
    assert all(report.opened and report.agrees and report.version for report in verdict.readers)
    assert sum(report.bytes_equal for report in verdict.readers) == verdict.confirmed_bytes
    assert listener.told == [("confirm", CHANGED + verdict.sampled_bytes), "finish"]
    assert listener.done == CHANGED + verdict.sampled_bytes


def test_the_seed_chooses_the_sample(overlay, tmp_path):
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    samples = [
        [(sample.offset, len(sample.data)) for sample in ExpectedDisk(overlay, seed).samples] for seed in (1, 1, 2)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert confirm_container(candidate, overlay, seed=1) == confirm_container(candidate, overlay, seed=1)


def test_where_one_reader_is_wrong_the_other_is_asked(overlay, tmp_path):
    """The child has no sector bitmaps, so pyvhdi can't be asked for some sectors of blocks that are the parent's."""
    overlay.write_at(0, overlay.base.read_at(0, MIB))
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    verdict = confirm_container(candidate, overlay, seed=1)
    first, second = verdict.readers
    assert (first.reader, second.reader) == ("pyvhdi", "dissect.hypervisor")
    assert [left.fault for left in first.left_out] == ["sector-bitmap-missing"]
    assert second.bytes_equal == sum(left.bytes for left in first.left_out)
    assert verdict.unconfirmed == ()


@pytest.mark.parametrize("place", sorted(CHANGES))
def test_one_bit_of_a_changed_sector(overlay, tmp_path, place):
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    source = candidate.files[0][1]
    where = source.read_at(0, source.size).index(overlay.read_at(place, 64))
    message = refused(replaced(candidate, flipped(source, where + 17)), overlay)
    assert "pyvhdi" in message
    assert f"512 bytes at {place:#x} of the disk" in message


def test_one_bit_of_an_unchanged_sector(overlay, tmp_path):
    """Not every byte of the others is looked at, but each seed looks at others."""
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    source = candidate.files[0][1]
    where = source.read_at(0, source.size).index(overlay.read_at(MIB - 4096, 64))
    broken = replaced(candidate, flipped(source, where))
    seeds = [seed for seed in range(30) if (MIB - 4096) // 512 in sampled_sectors(overlay, seed)]
    assert 0 < len(seeds) < 30
    assert "pyvhdi" in refused(broken, overlay, seed=seeds[0])


def sampled_sectors(changes, seed):
    samples = ExpectedDisk(changes, seed).samples
    return {place // 512 for one in samples for place in range(one.offset, one.offset + len(one.data), 512)}


@pytest.mark.parametrize("structure", ["header", "region table", "metadata", "BAT", "locator"])
def test_one_bit_of_a_structure(overlay, tmp_path, structure):
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    source = candidate.files[0][1]
    whole = source.read_at(0, source.size)
    with open_disk(tmp_path / "base.vhdx") as base:
        linkage = base.layers[0].info.identity
    places = {
        "header": 64 * 1024 + 16,
        "region table": 192 * 1024 + 32,
        "metadata": whole.index((8 * MIB).to_bytes(8, "little")) + 2,
        "BAT": 3 * MIB + 1 + 2,
        "locator": whole.index(str(linkage).encode("utf-16-le")) + 2,
    }
    refused(replaced(candidate, flipped(source, places[structure])), overlay)


def test_a_block_that_is_not_there(overlay, tmp_path):
    """A change that the file lost: the parent's bytes are read."""
    blocks = {0: Block(data=overlay.read_at(0, MIB)), 2: Block(data=overlay.read_at(2 * MIB, MIB))}
    message = refused(child_of(overlay, tmp_path / "c.vhdx", blocks=blocks), overlay)
    assert f"{7 * MIB + 512:#x}" in message


def test_another_parent(overlay, tmp_path):
    linkage = {"parent_linkage": f"{{{UUID(int=9)}}}", "relative_path": ".\\base.vhdx"}
    assert "linkage" in refused(child_of(overlay, tmp_path / "c.vhdx", parent=linkage), overlay)


def test_another_size_and_another_format(overlay, tmp_path):
    assert "disk of" in refused(child_of(overlay, tmp_path / "c.vhdx", virtual_size=9 * MIB), overlay)
    candidate = child_of(overlay, tmp_path / "d.vhdx")
    assert "vhdx" in refused(Candidate("vhd", candidate.files), overlay)
    assert "chain" in refused(Candidate("vhdx", candidate.files[:1]), overlay)
    assert refused(replaced(candidate, BytesSource(b"nothing at all")), overlay)


def test_what_nobody_can_confirm_stops_the_commit(overlay, tmp_path):
    """ZERO blocks of a child: pyvhdi reads the parent there; dissect does not open a file with unknown metadata."""
    overlay.write_at(2 * MIB, bytes(MIB))
    blocks = {number: Block(data=overlay.read_at(number * MIB, MIB)) for number in (0, 7)}
    blocks[2] = Block(BlockState.ZERO)
    items = [(UUID(int=77), 0, b"something")]
    candidate = child_of(overlay, tmp_path / "c.vhdx", blocks=blocks, metadata_items=items)
    message = refused(candidate, overlay, "unconfirmed")
    assert "pyvhdi: zero-reads-parent" in message
    assert "dissect.hypervisor: not opened, unknown-metadata" in message
    verdict = confirm_container(candidate, overlay, seed=1, single_opinion=True)
    assert verdict.unconfirmed_bytes == MIB
    left = verdict.unconfirmed_bytes + verdict.unconfirmed_sampled_bytes
    assert verdict.confirmed_bytes == verdict.changed_bytes + verdict.sampled_bytes - left
    first = next(each for each in verdict.unconfirmed if each.offset == 2 * MIB)
    assert first.length == MIB
    assert first.why == ("pyvhdi: zero-reads-parent", "dissect.hypervisor: not opened, unknown-metadata")
    plain = child_of(overlay, tmp_path / "d.vhdx", blocks=blocks)
    assert confirm_container(plain, overlay, seed=1).unconfirmed_bytes == 0


def test_a_single_opinion_must_be_right(overlay, tmp_path):
    overlay.write_at(2 * MIB, bytes(MIB))
    overlay.write_at(3 * MIB, b"\1" * 512)
    blocks = {number: Block(data=overlay.read_at(number * MIB, MIB)) for number in (0, 7)}
    blocks |= {number: Block(BlockState.ZERO) for number in (2, 3)}
    items = [(UUID(int=77), 0, b"something")]
    candidate = child_of(overlay, tmp_path / "c.vhdx", blocks=blocks, metadata_items=items)
    assert "vhdtool" in refused(candidate, overlay, single_opinion=True)


def test_a_refusal_without_a_known_fault_is_a_contradiction(overlay, tmp_path, monkeypatch):
    overlay.write_at(0, overlay.base.read_at(0, MIB))  # so dissect is needed for the start of the disk
    candidate = child_of(overlay, tmp_path / "c.vhdx", metadata_items=[(UUID(int=77), 0, b"something")])
    assert confirm_container(candidate, overlay, seed=1).unconfirmed_sampled_bytes > 0
    monkeypatch.setattr("vhdtool.disk.witness.refusal_of", lambda *_: None)
    message = refused(candidate, overlay)
    assert "dissect.hypervisor" in message
    assert "does not open" in message
    verdict = confirm_container(candidate, overlay, seed=1, single_opinion=True)
    assert [(report.opened, report.known_fault) for report in verdict.readers] == [(True, None), (False, None)]


def test_after_the_commit_the_same_is_asked_of_the_real_file(tmp_path):
    """In place, the disk below the overlay is the changed one by then: what to ask is fixed before."""
    path = tmp_path / "base.vhdx"
    layout = make(path, blocks={1: Block(data=pattern(1, MIB))})
    with open_disk(path) as disk, Overlay(disk) as over:
        over.write_at(MIB + 512, b"new" * 512)
        expected = ExpectedDisk(over, 1)
        with path.open("r+b") as file:
            file.seek(layout.blocks[1] + 512)
            file.write(over.read_at(MIB + 512, 1536))
        with open_disk(path) as real:
            candidate = Candidate("vhdx", [(file.path, file) for file in real.files])
            verdict = confirm_container(candidate, expected)
        assert verdict.changed_bytes == 1536
        assert verdict.confirmed_bytes > 1536
        with path.open("r+b") as file:
            file.seek(layout.blocks[1] + 600)
            file.write(b"x")
        with open_disk(path) as real:
            candidate = Candidate("vhdx", [(file.path, file) for file in real.files])
            refused(candidate, expected)


@pytest.mark.parametrize("kind", [FIXED, vhd_files.DYNAMIC, DIFFERENCING])
def test_vhds(tmp_path, kind):
    base, child = tmp_path / "base.vhd", tmp_path / "child.vhd"
    parent = vhd_files.make(base)
    path = base
    if kind == DIFFERENCING:
        path = child
        vhd_files.make(
            child, 2, kind=kind, parent=parent, parent_path="base.vhd", blocks={0: frozenset({1, 9}), 2: WHOLE}
        )
    elif kind == FIXED:
        vhd_files.make(base, kind=FIXED)
    with open_disk(path) as disk, Overlay(disk) as over:
        place = 2 * 2 * MIB + 1024
        over.write_at(place, b"\7" * 1024)
        stored = path.read_bytes()
        where = stored.index(disk.read_at(place, 64))
        source = Patched(BytesSource(stored), {where: b"\7" * 1024})
        files = [(str(path), source), *((file.path, file) for file in disk.files[1:])]
        verdict = confirm_container(Candidate("vhd", files), over, seed=1)
        assert verdict.unconfirmed_bytes == 0
        assert (verdict.unconfirmed_sampled_bytes > 0) == (kind == DIFFERENCING)
        assert verdict.confirmed_bytes > 1024
        assert verdict.changed_bytes == 1024
        broken = [(str(path), flipped(source, where + 1000)), *files[1:]]
        refused(Candidate("vhd", broken), over, single_opinion=True)


def test_a_raw_image_has_no_container(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(pattern(1, 2 * MIB))
    with open_disk(path) as disk, Overlay(disk) as over:
        over.write_at(MIB, b"\7" * 512)
        changed = Patched(BytesSource(path.read_bytes()), {MIB: b"\7" * 512})
        verdict = confirm_container(Candidate("raw", [(str(path), changed)]), over, seed=1)
        assert verdict.container is False
        assert (verdict.changed_bytes, verdict.unconfirmed_bytes) == (512, 0)
        assert verdict.confirmed_bytes == 512 + verdict.sampled_bytes
        assert [report.reader for report in verdict.readers] == ["plain file"]
        assert "plain file" in refused(Candidate("raw", [(str(path), flipped(changed, MIB + 100))]), over)
        short = BytesSource(changed.read_at(0, MIB + 512))
        assert "plain file" in refused(Candidate("raw", [(str(path), short)]), over)


def test_a_damaged_place_that_does_not_change_is_counted(overlay, tmp_path, monkeypatch):
    candidate = child_of(overlay, tmp_path / "c.vhdx")
    real = overlay.base.read_into

    def damaged(offset, buffer):
        if offset >= 5 * MIB and offset < 6 * MIB:
            raise DamagedError("damaged", "a damaged block")
        return real(offset, buffer)

    monkeypatch.setattr(overlay.base, "read_into", damaged)
    verdict = confirm_container(candidate, overlay, seed=1)
    assert verdict.unreadable_samples > 0
    assert verdict.confirmed_bytes == verdict.changed_bytes + verdict.sampled_bytes


def test_a_file_that_can_not_be_read_is_told_as_it_is(overlay, tmp_path):
    class Failing(Patched):
        def read_at(self, offset, length):
            if offset >= 4 * MIB:
                raise InputError("read-failed", "reading failed: the disk is gone")
            return super().read_at(offset, length)

    candidate = child_of(overlay, tmp_path / "c.vhdx")
    assert "the disk is gone" in refused(replaced(candidate, Failing(candidate.files[0][1], {})), overlay)


def test_many_small_changes_are_asked_together(tmp_path):
    path = tmp_path / "base.vhdx"
    make(path, virtual_size=8 * MIB, blocks={number: Block(data=pattern(number, MIB)) for number in range(8)})
    choice = random.Random(3)
    with open_disk(path) as disk, Overlay(disk) as over:
        for _ in range(300):
            over.write_at(choice.randrange(16384) * 512, choice.randbytes(512))
        verdict = confirm_container(child_of(over, tmp_path / "c.vhdx"), over, seed=5)
        assert verdict.changed_bytes == sum(length for _, length in over.changed())
        assert verdict.unconfirmed_bytes == 0
        groups = list(ExpectedDisk(over, 1).changed(MIB))
        assert len(groups) == 8
        assert all(group[0][0] // MIB == (group[-1][1] - 1) // MIB for group in groups)
        assert sum(stop - start for group in groups for start, stop in group) == verdict.changed_bytes


def test_nothing_changed_is_confirmed_by_its_sample(tmp_path):
    path = tmp_path / "base.vhdx"
    make(path, identity=IDENTITY, blocks={1: Block(data=pattern(1, MIB))})
    with open_disk(path) as disk, Overlay(disk) as over:
        candidate = Candidate("vhdx", [(str(path), disk.files[0])])
        verdict = confirm_container(candidate, over, seed=1)
        assert verdict.changed_bytes == 0
        assert verdict.confirmed_bytes == verdict.sampled_bytes > 0
