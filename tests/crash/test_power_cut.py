"""The harness itself: it makes the states that it says, and sees a fault where there is one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.power_cut import (
    CrashFaultError,
    Expected,
    Reader,
    Recording,
    View,
    flushes_that_matter,
    judge,
    pending_at,
    record,
    reset,
    states_of,
)
from tests.crash.recording import Flush, RecordingStore, Write
from vhdtool.disk.host_store import HostStore
from vhdtool.errors import OutputError

SEED = 11
OLD = b"A" * 4096
NEW = b"B" * 4096


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "image").write_bytes(OLD)
    return folder


def image(folder: Path) -> View:
    path = folder / "image"
    return Expected(OLD, NEW).view(path.read_bytes()) if path.exists() else View.WRONG


def replace_image(store: HostStore, folder: Path) -> None:
    """The textbook's way: a new file, flushed, then renamed."""
    file = store.create(str(folder / "new"))
    file.write_at(0, NEW[:1024])
    file.write_at(1024, NEW[1024:])
    file.flush()
    file.close()
    store.rename(str(folder / "new"), str(folder / "image"))
    store.flush_folder(str(folder / "image"))


def judge_image(recording: Recording, tmp_path: Path, count: int = 200) -> dict[View, int]:
    return judge(recording, [Reader("image", image)], seed=SEED, count=count, work=tmp_path / "work").seen("image")


def test_code_that_is_right_passes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    recording = record(folder, lambda store: replace_image(store, folder))
    assert image(folder) is View.NEW
    seen = judge_image(recording, tmp_path)
    assert seen[View.OLD] >= 20
    assert seen[View.NEW] >= 2
    reset(recording, folder)
    assert image(folder) is View.OLD
    assert sorted(path.name for path in folder.iterdir()) == ["image"]


def test_each_flush_left_out_is_seen(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    recording = record(folder, lambda store: replace_image(store, folder))
    found = flushes_that_matter(recording, lambda one: judge_image(one, tmp_path))
    assert list(found) == [0, 1]
    assert all(f"seed {SEED}" in text for text in found.values())


def test_overwriting_in_place_is_seen(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)

    def overwrite(store: HostStore) -> None:
        file = store.open(str(folder / "image"))
        file.write_at(0, NEW)
        file.flush()

    with pytest.raises(CrashFaultError, match=r"image sees wrong; state .* of seed 11, .*\n.*VHDTOOL_CRASH_SEED=11"):
        judge_image(record(folder, overwrite), tmp_path)


def test_one_sector_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    new = OLD[:512] + b"B" * 512 + OLD[1024:]

    def overwrite(store: HostStore) -> None:
        file = store.open(str(folder / "image"))
        file.write_at(512, new[512:1024])
        file.flush()

    reader = Reader("image", lambda state: Expected(OLD, new).view((state / "image").read_bytes()))
    assert judge(record(folder, overwrite), [reader], seed=SEED, count=50, work=tmp_path / "work").states >= 3


def test_what_is_told_as_done_must_be_stable(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)

    def never_flushed(store: HostStore) -> None:
        store.rename(str(folder / "other"), str(folder / "image"))

    (folder / "other").write_bytes(NEW)
    with pytest.raises(CrashFaultError, match="image sees old"):
        judge_image(record(folder, never_flushed), tmp_path)


def test_a_reader_that_raises_or_refuses(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    recording = record(folder, lambda store: replace_image(store, folder))

    def asks(reader: Reader) -> None:
        judge(recording, [reader], seed=SEED, count=20, work=tmp_path / "work")

    with pytest.raises(CrashFaultError, match=r"bad sees wrong: it raises ZeroDivisionError"):
        asks(Reader("bad", lambda _: View.OLD if 1 // 0 else View.NEW))
    with pytest.raises(CrashFaultError, match="shy sees refused"):
        asks(Reader("shy", lambda _: View.REFUSED))
    asks(Reader("shy", lambda _: View.REFUSED, may_refuse=True))


def test_a_reader_that_changes_files_has_its_own(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    recording = record(folder, lambda store: replace_image(store, folder))

    def destroy(state: Path) -> View:
        view = image(state)
        (state / "image").write_bytes(b"")
        return view

    readers = [Reader("first", destroy, changes=True), Reader("second", image), Reader("third", destroy, changes=True)]
    judge(recording, readers, seed=SEED, count=20, work=tmp_path / "work")


def test_length_is_an_operation_of_its_own(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    sizes = set()

    def extend(store: HostStore) -> None:
        file = store.open(str(folder / "image"))
        file.truncate(8192)
        file.write_at(8192, NEW)
        file.truncate(2048)
        file.flush()

    def size(state: Path) -> View:
        sizes.add((state / "image").stat().st_size)
        return View.OLD

    judge(
        record(folder, extend), [Reader("size", size)], seed=SEED, count=100, work=tmp_path / "work",
        ends=frozenset({View.OLD}),
    )  # fmt: skip
    assert {2048, 4096, 8192, 12288} <= sizes
    assert len(sizes) > 4  # a torn write that ends the file early


def test_giving_a_name_may_leave_both(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    seen = set()

    def name(store: HostStore) -> None:
        file = store.create(str(folder / "made"))
        file.write_at(0, NEW)
        file.flush()
        file.close()
        store.give_name(str(folder / "made"), str(folder / "child"))
        store.flush_folder(str(folder / "child"))

    def names(state: Path) -> View:
        seen.add(tuple(sorted(path.name for path in state.iterdir())))
        return View.NEW if (state / "child").exists() else View.OLD

    judge(record(folder, name), [Reader("names", names)], seed=SEED, count=100, work=tmp_path / "work")
    assert seen == {("image",), ("image", "made"), ("child", "image"), ("child", "image", "made")}


def test_a_seed_repeats_its_states(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)

    def write(store: HostStore) -> None:
        file = store.open(str(folder / "image"))
        for place in range(0, 8192, 1024):
            file.write_at(place, NEW[:1024])
        file.flush()

    operations = record(folder, write).operations
    first, again = (states_of(operations, random.Random(5), 100) for _ in range(2))
    assert first == again
    assert len({(state.stop, state.key) for state in first}) == len(first)
    assert {"none", "all", "all but one", "one alone", "subset", "torn subset", "torn prefix"} == {
        state.kind for state in first
    }


def test_flushes_make_stable_what_is_before_them() -> None:
    operations = (Write(0, 0, b"a"), Write(1, 0, b"b"), Flush(0), Write(0, 1, b"c"), Flush(1))
    assert [pending_at(operations, stop) for stop in range(6)] == [[], [0], [0, 1], [1], [1, 3], [3]]


def test_calls_that_fail(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    calls = 0
    while True:
        store = RecordingStore(folder, fail_from=calls, fail_for=1)
        try:
            replace_image(store, folder)
        except OutputError:
            store.remove(str(folder / "new"))
            calls += 1
            continue
        break
    assert calls == 6


def test_files_elsewhere_are_no_part_of_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with pytest.raises(ValueError, match="not in the recorded folder"):
        RecordingStore(folder).create(str(tmp_path / "elsewhere"))
