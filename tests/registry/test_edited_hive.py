from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.registry.build_hive import PAGE, SEGMENT, build_hive, hbins_size, sealed
from tests.registry.build_log import dirt_log, dirty, entry, hvle_log
from tests.registry.editing import HIVE, START, edited, editor
from tests.registry.hive_model import content_of_hive, written
from vhdtool.bytesource import BytesSource
from vhdtool.registry.check import check_hive
from vhdtool.registry.edit import EditedHive, HiveEditor
from vhdtool.registry.hive import Hive

# --- base block, logs, growth ----------------------------------------------------------------------------------------


def test_the_base_block_keeps_what_it_says() -> None:
    raw = sealed(HIVE, flags=2, written=0x01D9_0000_1234_5678)
    made = edited(lambda one: one.set_value("Key", "v", 3, bytes(9000)), raw)
    assert struct.unpack_from("<II", made, 4) == (8, 8)
    assert made[12:40] == raw[12:40]
    assert made[44:508] == raw[44:508]
    assert hbins_size(made) == hbins_size(raw) + 3 * PAGE


@pytest.mark.parametrize(("sequence", "after"), [(0xFFFFFFFF, 0), (0, 1)])
def test_sequence_numbers_wrap_around(sequence: int, after: int) -> None:
    raw = sealed(HIVE, primary=sequence, secondary=sequence)
    made = edited(lambda one: one.create_key("A"), raw)
    assert struct.unpack_from("<II", made, 4) == (after, after)


def test_growth_fills_the_files_tail_first() -> None:
    """Whatever lies there: a new bin is written whole."""
    raw = HIVE + b"\xaa" * (5 * PAGE + 700)
    made = edited(lambda one: one.set_value("Key", "v", 3, bytes(SEGMENT)), raw)
    assert len(made) == len(raw)
    assert made[len(HIVE) + 5 * PAGE :] == raw[len(HIVE) + 5 * PAGE :]
    started = editor(raw)
    started.set_value("Key", "v", 3, bytes(2 * SEGMENT))
    result = started.finish()
    assert (result.grew_from, result.size) == (len(raw), len(HIVE) + 8 * PAGE)
    written(raw, result)


RECOVERED = build_hive(
    {"Select": {"Current": 1}, **{f"Many\\Key{number}": {"n": b"12345" * 80} for number in range(300)}},
    sequences=(7, 7),
)


def recovered_and_edited(raw: bytes, logs: dict[str, bytes], base: bytes) -> tuple[bytes, EditedHive]:
    """Edit a dirty hive; without its logs, and with them beside it, it is what was recovered and edited."""
    started = editor(raw, logs)
    assert started.set_value("Select", "Current", 4, START)
    assert started.create_key("New")
    result = started.finish()
    made = written(raw, result)
    assert check_hive(BytesSource(made)) == ()
    expected = content_of_hive(base)
    expected["\\Select"] = {"Current": (4, START)}
    expected["\\New"] = {}
    assert content_of_hive(made) == expected
    beside = [(name, BytesSource(log)) for name, log in logs.items()]
    again = Hive.open(BytesSource(made), beside)
    assert (again.state, again.logs_applied) == ("clean", ())
    return made, result


def test_a_dirty_hive_is_recovered_then_edited() -> None:
    """All that the logs held is written with the edit, the file grows, and the number is above the last entry's."""
    log = hvle_log(RECOVERED, [entry(RECOVERED, 40), entry(RECOVERED, 41)], 40)
    raw = dirty(HIVE)
    assert len(RECOVERED) > len(raw) + PAGE
    made, result = recovered_and_edited(raw, {"SYSTEM.LOG1": log}, RECOVERED)
    assert result.grew_from == len(raw)
    assert result.sequence == 42
    assert struct.unpack_from("<II", made, 4) == (42, 42)
    # and a dirty hive is not made clean by an edit that changes nothing
    started = editor(raw, {"SYSTEM.LOG1": log})
    assert not started.delete_key("nothing")
    assert list(started.finish().pieces()) == []


def test_the_log_of_an_older_windows() -> None:
    """It counts where it bears the time of the hive's last write: after the edit it no longer does."""
    log = dirt_log(HIVE, RECOVERED)
    made, result = recovered_and_edited(dirty(HIVE), {"SYSTEM.LOG": log}, RECOVERED)
    assert result.sequence == 3
    again = Hive.open(BytesSource(dirty(made, 4, 3)), [("SYSTEM.LOG", BytesSource(log))])
    assert (again.state, again.logs_applied) == ("dirty", ())


def test_a_clean_hive_gets_a_number_above_its_logs() -> None:
    log = hvle_log(HIVE, [entry(HIVE, 2107 + number, [0]) for number in range(24)], 2107)
    started = editor(HIVE, {"SYSTEM.LOG1": bytes(100), "SYSTEM.LOG2": log})
    started.create_key("A")
    result = started.finish()
    assert result.sequence == 2131
    again = Hive.open(BytesSource(written(HIVE, result)), [("SYSTEM.LOG2", BytesSource(log))])
    assert again.state == "clean"


@pytest.mark.data
@pytest.mark.parametrize(("folder", "name"), [("NewDirtyHive1", "NewDirtyHive"), ("OldDirtyHive", "OldDirtyHive")])
def test_real_dirty_hives(folder: str, name: str, tmp_path: Path) -> None:
    """Recovered and edited; with its old logs beside it, it stays as it was edited."""
    path = data_file(f"hives/yarp/{folder}/{name}")
    logs = [(log.name, BytesSource(log.read_bytes())) for log in sorted(path.parent.glob(path.name + ".LOG*"))]
    hive = Hive.open(BytesSource(path.read_bytes()), logs, path=name)
    expected = content_of_hive(hive.image.read_at(0, hive.image.size))
    assert hive.state == "recovered"
    started = HiveEditor(hive)
    assert started.set_value("Added", "v", 3, b"12345")
    result = started.finish()
    made = written(path.read_bytes(), result)
    expected["\\Added"] = {"v": (3, b"12345")}
    assert content_of_hive(made) == expected
    assert {problem.code for problem in check_hive(BytesSource(made))} <= {"hive-cell-orphan"}  # Windows leaves them
    again = Hive.open(BytesSource(made), logs)
    assert (again.state, again.logs_applied) == ("clean", ())
    assert result.sequence > hive.base.primary_sequence
