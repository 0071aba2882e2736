from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from tests.crash.power_cut import crash_seed
from tests.crash.recording import RecordingStore
from tests.disk.commits import commit, folder_state, whole
from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.test_commit_child import text_of
from tests.disk.vhdx_files import LOG_GUID, MIB, make
from tests.fuzz import vhd_images, vhdx_images
from vhdtool.disk import merge as module
from vhdtool.disk.chain import open_disk
from vhdtool.disk.child_linkage import announce_parent, settle_linkage
from vhdtool.disk.commit import Target
from vhdtool.disk.commit_child import ChildCommit
from vhdtool.disk.create_image import create_image
from vhdtool.disk.create_vhd import Block as VhdBlock
from vhdtool.disk.create_vhd import write_vhd
from vhdtool.disk.create_vhdx import Block, BlockState, PendingEntry, PendingLog
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.merge import MergeChanges, merge_child
from vhdtool.disk.vhd_format import EPOCH
from vhdtool.disk.vhdx_log_entry import DataWrite
from vhdtool.errors import OutputError, RefusedError, UsageError, VhdtoolError

CHANGES = {700 * 512 + 100: b"hello" * 1000, 2 * MIB - 3: b"across", 3 * MIB: bytes(512)}
IN_PLACE = Target("in-place", no_children=True)


def content(path: Path) -> bytes:
    with open_disk(path) as disk:
        return whole(disk)


def pair(folder: Path, form: str, kind: str = "dynamic") -> tuple[Path, Path, bytes]:
    """A parent, a child of ours, and the child's disk."""
    base, child = folder / f"base.{form}", folder / f"child.{form}"
    if form == "vhdx":
        make(base, kind=kind, blocks={0: Block(data=b"0" * 9000), 3: Block(data=b"3" * MIB)})
    else:
        blocks = {0: VhdBlock(b"0" * 9000), 1: VhdBlock(b"1" * (2 * MIB))}
        write_vhd(base, virtual_size=4 * MIB + 512, unique_id=UUID(int=3), timestamp=EPOCH, kind=kind, blocks=blocks)
    _, expected = commit(ChildCommit, base, CHANGES, child)
    return base, child, expected


PAIRS = [("vhdx", "dynamic"), ("vhdx", "fixed"), ("vhd", "dynamic"), ("vhd", "fixed")]


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_the_parent_holds_the_childs_disk(tmp_path, form, kind):
    base, child, expected = pair(tmp_path, form, kind)
    old = content(base)
    merged = merge_child(str(child), IN_PLACE)
    assert merged.changed
    assert merged.merged_bytes == 512 * sum(differs(place, expected, old) for place in range(0, len(old), 512))
    assert content(base) == content(child) == expected
    with open_disk(child) as disk:
        assert not disk.info.problems
        assert disk.layers[0].info.linkage == (disk.layers[1].info.identity,)
        assert disk.layers[1].info.type == kind
    assert sorted(path.name for path in tmp_path.iterdir()) == [base.name, child.name]
    assert any("may be removed" in note for note in merged.notes)


def differs(place, one, other):
    return one[place : place + 512] != other[place : place + 512]


@pytest.mark.parametrize(
    ("chain", "suffix", "model"),
    [(vhdx_chain, "vhdx", vhdx_images.read_model), (vhd_chain, "vhd", vhd_images.read_model)],
)
def test_partial_and_zero_blocks_of_a_middle_layer(tmp_path, chain, suffix, model):
    top = chain(tmp_path)[-1]
    expected = model(top, 0, top.virtual_size)
    grandparent = (tmp_path / f"layer1.{suffix}").read_bytes()
    merge_child(str(tmp_path / f"layer3.{suffix}"), IN_PLACE)
    assert content(tmp_path / f"layer2.{suffix}") == expected
    assert content(tmp_path / f"layer3.{suffix}") == expected
    assert (tmp_path / f"layer1.{suffix}").read_bytes() == grandparent


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_twice_is_once(tmp_path, form, kind):
    _, child, _ = pair(tmp_path, form, kind)
    merge_child(str(child), IN_PLACE)
    before = folder_state(tmp_path)
    again = merge_child(str(child), IN_PLACE)
    assert (again.changed, again.merged_bytes, again.committed) == (False, 0, None)
    assert folder_state(tmp_path) == before


@pytest.mark.parametrize("form", ["vhdx", "vhd"])
def test_without_a_target_it_only_tells(tmp_path, form):
    base, child, _ = pair(tmp_path, form)
    before = folder_state(tmp_path)
    merged = merge_child(str(child), None)
    assert (merged.child, merged.parent, merged.changed) == (str(child), str(base), False)
    assert merged.merged_bytes > 0
    assert folder_state(tmp_path) == before


@pytest.mark.parametrize("form", ["vhdx", "vhd"])
def test_the_child_goes_where_it_is_wished(tmp_path, form):
    base, child, expected = pair(tmp_path, form)
    merged = merge_child(str(child), IN_PLACE, remove_child=True)
    assert merged.child_removed
    assert [path.name for path in tmp_path.iterdir()] == [base.name]
    assert content(base) == expected


def test_what_a_vhdx_child_says_of_its_parent(tmp_path):
    base, child, expected = pair(tmp_path, "vhdx")
    before = text_of(child)
    with open_disk(child) as disk:
        identity, disk_id = disk.layers[0].info.identity, disk.layers[0].virtual_disk_id
    merge_child(str(child), IN_PLACE)
    with open_disk(child) as disk:
        entries = disk.layers[0].parent_entries
        assert (disk.layers[0].info.identity, disk.layers[0].virtual_disk_id) == (identity, disk_id)
        assert set(entries) == {"parent_linkage", "relative_path"}
        assert entries["relative_path"] == ".\\base.vhdx"
        assert entries["parent_linkage"] != before[1]
        assert disk.layers[0].info.log == "clean"
        assert whole(disk) == expected
    with open_disk(base) as disk:
        assert entries["parent_linkage"] == f"{{{disk.layers[0].info.identity}}}"


def test_children_of_the_child_keep_their_parent(tmp_path):
    _, child, _ = pair(tmp_path, "vhdx")
    grandchild = tmp_path / "grandchild.vhdx"
    _, expected = commit(ChildCommit, child, {MIB + 5: b"grand"}, grandchild)
    merge_child(str(child), IN_PLACE)
    assert content(grandchild) == expected


def test_linkage_can_change_many_times(tmp_path):
    """The locator moves between two places of the metadata, and never on and on."""
    base, child, expected = pair(tmp_path, "vhdx")
    size = child.stat().st_size
    with open_disk(base) as disk:
        identity = disk.layers[0].info.identity
    places = set()
    for number in range(1, 8):
        with open_disk(child) as disk:
            assert announce_parent(disk.layers[0], UUID(int=number), OS_STORE) > 0
        with open_disk(child) as disk:
            assert disk.layers[0].info.linkage == (identity, str(UUID(int=number)))
            assert whole(disk) == expected
            assert not disk.info.problems
            places.add(next(item.offset for item in disk.layers[0].metadata_items if item.name == "parent-locator"))
        if number % 2:
            assert settle_linkage(str(child), str(base), OS_STORE) > 0
            assert settle_linkage(str(child), str(base), OS_STORE) == 0
            with open_disk(child) as disk:
                assert disk.layers[0].info.linkage == (identity,)
    assert child.stat().st_size == size
    assert len(places) <= 2


def test_metadata_without_room_for_the_linkage(tmp_path):
    """A region that is full up to its end, but for the old locator."""
    make(tmp_path / "base.vhdx")
    linkage = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\base.vhdx"}
    child = tmp_path / "child.vhdx"
    big = MIB - (64 << 10) - 400
    make(child, kind="differencing", parent=linkage, metadata_items=[(UUID(int=77), 0, b"x" * big)])
    before = child.read_bytes()
    with open_disk(child) as disk, pytest.raises(RefusedError) as caught:
        announce_parent(disk.layers[0], UUID(int=1), OS_STORE)
    assert caught.value.code == "linkage-no-room"
    assert child.read_bytes() == before


class Refusal:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path, target: Target | None = IN_PLACE, **options) -> VhdtoolError:
        before = folder_state(self.folder)
        with pytest.raises(VhdtoolError) as caught:
            merge_child(str(path), target, **options)
        assert folder_state(self.folder) == before
        return caught.value


@pytest.fixture
def refused(tmp_path):
    return Refusal(tmp_path)


def test_an_image_without_a_parent(tmp_path, refused):
    make(tmp_path / "a.vhdx")
    (tmp_path / "a.img").write_bytes(bytes(MIB))
    for name in ("a.vhdx", "a.img"):
        for target in (None, IN_PLACE):
            error = refused(tmp_path / name, target)
            assert (type(error), error.code) == (UsageError, "not-a-child")


def test_a_parent_with_other_children(tmp_path, refused):
    base, child, _ = pair(tmp_path, "vhdx")
    create_image(tmp_path / "other.vhdx", format="vhdx", kind="differencing", parent=base)
    error = refused(child)
    assert (type(error), error.code) == (RefusedError, "is-a-parent")


def test_a_vhd_parent_wants_the_users_word(tmp_path, refused):
    _, child, _ = pair(tmp_path, "vhd")
    error = refused(child, Target("in-place"))
    assert (type(error), error.code) == (RefusedError, "children-unknown")


def test_a_child_with_children_is_not_removed(tmp_path, refused):
    _, child, _ = pair(tmp_path, "vhdx")
    create_image(tmp_path / "grandchild.vhdx", format="vhdx", kind="differencing", parent=child)
    error = refused(child, remove_child=True)
    assert (type(error), error.code, error.path) == (RefusedError, "is-a-parent", str(child))


def test_a_pending_log(tmp_path, refused):
    log = PendingLog(LOG_GUID, [PendingEntry([DataWrite(3 * MIB, bytes(4096))])])
    make(tmp_path / "base.vhdx", log=log)
    parent = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\base.vhdx"}
    make(tmp_path / "child.vhdx", kind="differencing", parent=parent, blocks={0: Block(data=b"x")})
    for target in (None, IN_PLACE):
        error = refused(tmp_path / "child.vhdx", target)
        assert (type(error), error.code, error.path) == (RefusedError, "log-pending", str(tmp_path / "base.vhdx"))


def test_disks_of_different_sizes(tmp_path, refused):
    make(tmp_path / "base.vhdx")
    parent = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\base.vhdx"}
    make(
        tmp_path / "child.vhdx", kind="differencing", parent=parent, virtual_size=5 * MIB, blocks={0: Block(data=b"x")}
    )
    error = refused(tmp_path / "child.vhdx")
    assert (type(error), error.code) == (RefusedError, "merge-size-differs")


@pytest.mark.parametrize(("form", "kind"), PAIRS)
def test_every_failing_call_leaves_a_chain(tmp_path, form, kind, monkeypatch):
    """A full disk from each call of the host on, and at that one alone: the child is the same disk all the same.

    Another merge, when there is room again, ends it.
    """
    monkeypatch.setattr(module, "commit_changes", without_opinions)
    base, child, expected = pair(tmp_path, form, kind)
    os.utime(base, (1_700_000_000, 1_700_000_000))
    files = {path: path.read_bytes() for path in (base, child)}
    old = content(base)
    store = RecordingStore(tmp_path)
    merge_child(str(child), IN_PLACE, store=store)
    for number in range(crash_seed() % 7, store.calls, 7):  # others in other runs
        for fail_for in (1, None):
            for path, data in files.items():
                path.write_bytes(data)
            failing = RecordingStore(tmp_path, fail_from=number, fail_for=fail_for)
            try:
                merge_child(str(child), IN_PLACE, store=failing)
            except VhdtoolError as error:
                if isinstance(error, OutputError):
                    assert content(base) == old
            assert content(child) == expected
            assert content(base) in {old, expected}
            recover(base)
            recover(child)
            merge_child(str(child), IN_PLACE)
            assert content(base) == content(child) == expected


def recover(path):
    from vhdtool.disk.recover import recover_image  # noqa: PLC0415

    recover_image(str(path))


def without_opinions(changes, target, *, commit, progress, **_):
    try:
        commit.prepare(progress)
        return commit.finish(progress)
    except BaseException:
        commit.abandon()
        raise


def test_what_changes_is_told_exactly_and_stays_told(tmp_path):
    base, child, expected = pair(tmp_path, "vhdx")
    old = content(base)
    with open_disk(child) as disk:
        changes = MergeChanges(disk)
        found = list(changes.changed())
        covered = {place for offset, length in found for place in range(offset, offset + length, 512)}
        assert covered == {place for place in range(0, len(old), 512) if differs(place, old, expected)}
        assert (changes.size, changes.logical_sector_size) == (4 * MIB, 512)
        assert changes.read_at(0, changes.size) == expected
        buffer = bytearray(100)
        assert changes.read_into(700 * 512 + 100, memoryview(buffer)) == 100
        assert buffer == b"hello" * 20
        with base.open("r+b") as file:
            file.write(b"")
        assert list(changes.changed()) == found


def test_zeros_of_a_large_child_cost_nothing(tmp_path):
    make(tmp_path / "base.vhdx", virtual_size=8 << 40, block_size=256 * MIB, blocks={5: Block(data=b"b" * 512)})
    parent = {"parent_linkage": "{22222222-2222-4222-8222-222222222222}", "relative_path": ".\\base.vhdx"}
    blocks = {number: Block(BlockState.ZERO) for number in range(2000)}
    shape = {"virtual_size": 8 << 40, "block_size": 256 * MIB}
    make(tmp_path / "child.vhdx", **shape, kind="differencing", parent=parent, blocks=blocks)
    with open_disk(tmp_path / "child.vhdx") as disk:
        changes = MergeChanges(disk)
        assert list(changes.changed()) == [(5 * 256 * MIB, 512)]
        assert disk.bytes_read < 600 * MIB
