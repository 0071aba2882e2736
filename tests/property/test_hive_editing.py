"""Random edits of real hives, held against a plain model of what they must hold.

Each run has a fresh seed, which is printed; ``VHDTOOL_FUZZ_SEED`` sets it. Every write passes the
gate of the editor; every 200 operations, and at the end, the whole hive passes the strict check and is read back.
With the profile ``long`` (``scripts/long``) it is 4,000 operations a hive, and foreign tools read along.
"""

from __future__ import annotations

import os
import secrets
import sys
from functools import cache
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data_files import data_file
from tests.registry.build_hive import build_hive
from tests.registry.hive_faults import SOUND
from tests.registry.hive_model import Session, content_of_hive, content_of_model
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.registry import subkey_list_edit
from vhdtool.registry.check import WARNING_CODES, check_hive
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive

LONG = os.environ.get("VHDTOOL_PROPERTY_PROFILE") == "long"
OPERATIONS = 4000 if LONG else 200
CHECKED_AFTER = 200
HIVES = (
    "hives/mkorman90__regipy/BCD.xz",  # 1.3: fast leaves, long data in one cell
    "hives/yarp/ManySubkeysHive",  # 1.3: 5,000 keys below one, a list of leaves
    "hives/ColinFinck__nt-hive/testhive",  # 1.5, written by offreg: names beyond the BMP, long data in segments
    "hives/log2timeline__dfwinreg/SYSTEM.xz",  # 1.5, of Windows XP or 2003
    "hives/fox-it__dissect.regf/SYSTEM.gz",  # 1.5, of Windows 10
)


def seed() -> str:
    return os.environ.get("VHDTOOL_FUZZ_SEED") or str(secrets.randbelow(1 << 32))


def faults(raw: bytes) -> set[tuple[str, int | None]]:
    return {(problem.code, problem.offset) for problem in check_hive(BytesSource(raw))}


def run(session: Session, operations: int, before: set[tuple[str, int | None]]) -> None:
    session.edit(session.random.randrange(1, 9))
    checked = 0
    while session.done < operations:
        session.edit(session.random.randrange(1, 9))
        if session.done - checked >= CHECKED_AFTER or session.done >= operations:
            checked = session.done
            found = faults(session.file)
            assert {fault for fault in found if fault[0] not in WARNING_CODES} == set()
            assert {code for code, _ in found} <= {code for code, _ in before}
            assert content_of_hive(session.file) == content_of_model(session.model)


@pytest.mark.data
@pytest.mark.parametrize("name", HIVES)
def test_random_edits_of_real_hives(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = seed()
    with capsys.disabled():  # the way back to a failure
        sys.stdout.write(f"\nVHDTOOL_FUZZ_SEED={started} {name}\n")
    session = Session(data_file(name).read_bytes(), f"{started} {name}")
    before = faults(session.file)
    for step in range(CHECKED_AFTER, OPERATIONS + 1, CHECKED_AFTER):
        run(session, step, before)
        if LONG:
            foreign_readers_agree(session, tmp_path)


def foreign_readers_agree(session: Session, folder: Path) -> None:
    """As in tests/oracle/test_hive_editing.py, in the long run only: whatever tools are there."""
    from tests.guests import has_hivex  # noqa: PLC0415
    from tests.oracle import test_hive_editing as oracle  # noqa: PLC0415

    if has_hivex():
        oracle.hivex_agrees(session, folder)
    oracle.dissect_finds_names(session, folder)


@given(
    st.integers(0, 1 << 32),
    st.sampled_from([("lh", 5), ("lf", 3), ("li", 3), ("lh", 4), ("li", 5)]),
    st.integers(2, 5),
)
def test_lists_that_are_split_and_emptied(number: int, kind: tuple[str, int], limit: int) -> None:
    """With leaves that are full after a few keys, so that lists of leaves come and go."""
    tree = {f"Many\\Key{index:02}": {"n": index} for index in range(number % 23)}
    session = Session(build_hive({"": {}, **tree}, lists=kind[0], leaf=limit, minor=kind[1]), number)
    with patch.object(subkey_list_edit, "LEAF_LIMITS", dict.fromkeys((b"li", b"lf", b"lh"), limit)):
        run(session, 60, set())


@given(st.integers(0, 1 << 32))
def test_edits_of_a_small_hive(number: int) -> None:
    run(Session(SOUND, number), 120, set())


@pytest.mark.parametrize("which", ["small", "testhive", "BCD"])
@given(number=st.integers(0, 1 << 48))
def test_edits_of_damaged_hives_end_well(which: str, number: int) -> None:
    """With a hive, or with one clear error; what the editor was given stays as it was."""
    session = damaged_session(which)
    for step in range(8):
        edit_damaged(session, Random(number + step))


def edit_damaged(session: Session, random: Random) -> None:
    raw = bytearray(session.file)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        damage(raw, random)
    session.random.setstate(random.getstate())
    source = bytes(raw)
    try:
        editor = HiveEditor(Hive.open(BytesSource(source), path="hive"))
        for _ in range(random.choice((1, 3, 10))):
            editor.apply(session.operation())
        edited = editor.finish()
    except VhdtoolError as error:
        assert error.exit_code in (3, 4, 7)  # noqa: PT017
        assert error.path == "hive"  # noqa: PT017
    else:
        assert all(offset + len(piece) <= edited.size for offset, piece in edited.pieces())
    assert source == bytes(raw)


@cache
def damaged_session(which: str) -> Session:
    files = {"testhive": "hives/ColinFinck__nt-hive/testhive", "BCD": "hives/mkorman90__regipy/BCD.xz"}
    return Session(SOUND if which == "small" else data_file(files[which]).read_bytes(), 0)


def damage(raw: bytearray, random: Random) -> None:
    """One bit, one number, or a few bytes from elsewhere."""
    place = random.randrange(512, len(raw) - 64)
    word = place & ~3
    match random.randrange(5):
        case 0 | 1:
            raw[place] ^= 1 << random.randrange(8)
        case 2:
            raw[word : word + 4] = random.choice((b"\xff" * 4, bytes(4), random.randbytes(4)))
        case 3:
            raw[word : word + 4] = (random.randrange(len(raw)) & ~7).to_bytes(4, "little")
        case _:
            other = random.randrange(512, len(raw) - 64) & ~7
            length = random.choice((4, 8, 32))
            raw[place & ~7 : (place & ~7) + length] = raw[other : other + length]
