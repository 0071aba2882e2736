from __future__ import annotations

import os

import pytest

from tests.crash.recording import RecordingStore
from vhdtool.disk.host_store import OsStore
from vhdtool.disk.new_file import NewFile, new_file, refuse_existing
from vhdtool.errors import OutputError, RefusedError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_has_its_name_only_when_it_is_published(tmp_path):
    with NewFile(str(tmp_path / "a"), "test") as new:
        new.file.write_at(0, b"whole")
        [name] = names(tmp_path)
        assert name.startswith(".a.vhdtool-test-")
        new.publish()
        assert names(tmp_path) == ["a"]
        with pytest.raises(ValueError, match="published"):
            new.publish()
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_two_at_once_do_not_meet(tmp_path):
    with NewFile(str(tmp_path / "a"), "test") as one, NewFile(str(tmp_path / "a"), "test") as other:
        one.file.write_at(0, b"one")
        other.file.write_at(0, b"other")
        other.publish()
        with pytest.raises(RefusedError) as caught:
            one.publish()
        assert caught.value.code == "output-exists"
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"other"


def test_it_is_gone_where_it_was_not_published(tmp_path):
    def interrupted():
        with NewFile(str(tmp_path / "a"), "test") as new:
            new.file.write_at(0, b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_a_name_that_can_not_be_made_stable_is_taken_back(tmp_path, monkeypatch):
    def fail(*_):
        raise OutputError("cannot-write", "can't flush the folder")

    with NewFile(str(tmp_path / "a"), "test") as new:
        monkeypatch.setattr(OsStore, "flush_folder", fail)
        with pytest.raises(OutputError):
            new.publish()
    assert names(tmp_path) == []


def test_every_failing_call_leaves_nothing(tmp_path):
    def make(store):
        with NewFile(str(tmp_path / "a"), "test", store) as new:
            new.file.write_at(0, b"x")
            new.publish()

    store = RecordingStore(tmp_path)
    make(store)
    (tmp_path / "a").unlink()
    for number in range(store.calls):
        with pytest.raises(OutputError):
            make(RecordingStore(tmp_path, fail_from=number, fail_for=1))
        assert names(tmp_path) == []


def test_at_once_under_its_name(tmp_path):
    with new_file(tmp_path / "a") as file:
        file.write_at(0, b"x")
        assert names(tmp_path) == ["a"]
    with pytest.raises(RefusedError) as caught, new_file(tmp_path / "a"):
        pass
    assert caught.value.code == "file-exists"
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "b"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["a"]


def test_names_that_are_taken(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    os.link(tmp_path / "a", tmp_path / "same")
    refuse_existing(str(tmp_path / "free"), [str(tmp_path / "a"), str(tmp_path / "gone")])
    for name, inputs, code in (("a", [], "output-exists"), ("same", ["a"], "output-is-input")):
        with pytest.raises(RefusedError) as caught:
            refuse_existing(str(tmp_path / name), [str(tmp_path / each) for each in inputs])
        assert caught.value.code == code
