from __future__ import annotations

import hashlib

import pytest

from tests.guest.fake_filesystem import FakeFilesystem
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.transaction.plan_files import plan_make_directory, plan_put, plan_remove

FILES = {"/Windows/win.ini": b"old", "/Windows/Panther/a.xml": b"<a/>", "/Windows/Panther/Deep/b.xml": b"<b/>"}


def filesystem() -> FakeFilesystem:
    return FakeFilesystem(FILES, ["/Empty"])


def put(path: str, content: bytes = b"new"):
    return plan_put(filesystem(), 2, path, BytesSource(content), source="host.ini")


def test_replaced_file_with_sizes_and_digest():
    (change,) = put("\\windows\\WIN.INI", b"newer").files
    assert (change.size_before, change.size, change.changes) == (3, 5, True)
    assert change.sha256 == hashlib.sha256(b"newer").hexdigest()
    assert (change.volume, change.source, change.path) == (2, "host.ini", "/windows/WIN.INI")


def test_new_file_has_no_size_before():
    (change,) = put("/Windows/new.ini").files
    assert change.size_before is None
    assert change.changes


def test_same_content_is_no_change():
    assert not put("/Windows/win.ini", b"old").changes


@pytest.mark.parametrize(
    ("path", "code"), [("/Nowhere/a", "no-such-folder"), ("/Windows", "not-a-file"), ("/", "not-a-file")]
)
def test_file_without_a_place_is_refused(path, code):
    with pytest.raises(VhdtoolError) as caught:
        put(path)
    assert caught.value.code == code


def test_directory_and_those_above_it():
    plan = plan_make_directory(filesystem(), 0, "/Windows/One/Two", parents=True)
    assert [(change.path, change.changes) for change in plan.files] == [
        ("/Windows/One", True),
        ("/Windows/One/Two", True),
    ]


def test_directory_that_is_there_is_no_change():
    for parents in (False, True):
        assert not plan_make_directory(filesystem(), 0, "/windows/panther", parents=parents).changes


@pytest.mark.parametrize(
    ("path", "parents", "code"),
    [
        ("/Windows/One/Two", False, "no-such-folder"),
        ("/Windows/win.ini", False, "not-a-directory"),
        ("/Windows/win.ini/a", True, "not-a-directory"),
    ],
)
def test_directory_without_a_place_is_refused(path, parents, code):
    with pytest.raises(VhdtoolError) as caught:
        plan_make_directory(filesystem(), 0, path, parents=parents)
    assert caught.value.code == code


def test_tree_is_removed_from_below():
    plan = plan_remove(filesystem(), 0, "/Windows/Panther", recursive=True)
    paths = [change.path for change in plan.files]
    assert paths[-1] == "/Windows/Panther"
    assert paths.index("/Windows/Panther/Deep/b.xml") < paths.index("/Windows/Panther/Deep")
    assert len(paths) == 4


def test_empty_directory_and_file_need_no_word():
    assert plan_remove(filesystem(), 0, "/Empty").changes
    assert plan_remove(filesystem(), 0, "/Windows/win.ini").files[0].size_before == 3


def test_absent_file_is_no_change():
    assert not plan_remove(filesystem(), 0, "/Windows/absent").changes


@pytest.mark.parametrize(("path", "code"), [("/Windows/Panther", "directory-not-empty"), ("/", "remove-root")])
def test_removal_of_too_much_is_refused(path, code):
    with pytest.raises(VhdtoolError) as caught:
        plan_remove(filesystem(), 0, path)
    assert caught.value.code == code
