"""Files of a stage as changes: what is there, what was made, what is gone."""

from __future__ import annotations

from tests.guest.guests import guest
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl
from vhdtool.staging.stage_files import StageFiles, listed


def test_directories_are_made_once_and_restricted_where_asked():
    files = StageFiles(guest(files={"Windows/Setup/x": b""}))
    for path, restricted in (("Setup", False), ("Setup/vhdtool", True), ("Setup/vhdtool", True), ("Other", False)):
        files.directory(path, restricted=restricted)
    assert [(one.path, one.security) for one in files.changes] == [
        ("/Windows/Setup/vhdtool", from_sddl(STAGED_DIRECTORY).to_bytes()),
        ("/Windows/Other", None),
    ]
    assert files.made == ["Setup/vhdtool", "Other"]


def test_new_files_are_restricted_and_replaced_ones_keep_what_they_have():
    files = StageFiles(guest(files={"Windows/Setup/there": b"old"}))
    new = files.put("Setup/new", b"content", source="here")
    replaced = files.put("Setup/there", b"other", source="here", new=False)
    same = files.put("Setup/there", b"old", source="here", new=False)
    assert new.security == from_sddl(STAGED_FILE).to_bytes()
    assert (new.changes, replaced.changes, same.changes) == (True, True, False)
    assert replaced.security is None
    assert [path for path, _, _ in listed(files.changes, "/Windows")] == ["Setup/new", "Setup/there", "Setup/there"]


def test_a_file_that_was_removed_is_new_again():
    files = StageFiles(guest(files={"Windows/Setup/there": b"old"}))
    files.remove("Setup/there")
    assert files.put("Setup/there", b"old", source="here").changes


def test_directories_go_when_they_are_empty_only():
    files = StageFiles(guest(files={"Windows/Setup/a/b/one": b"", "Windows/Setup/a/two": b""}))
    files.remove("Setup/a/b")
    files.remove_if_empty("Setup/a")
    assert "/Windows/Setup/a" not in [one.path for one in files.changes]
    files.remove("Setup/a/two")
    files.remove_if_empty("Setup/a")
    files.remove_if_empty("Setup/not-there")
    assert [one.path for one in files.changes][-1] == "/Windows/Setup/a"
