"""A small hive, its edits, and what the bytes of the result say."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.registry.build_hive import SEGMENT, build_hive
from tests.registry.hive_model import written
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.registry.check import WARNING_CODES, check_hive
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive, Key

NOW = datetime(2025, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
START = b"\x02\0\0\0"
HIVE = build_hive(
    {
        "": {"": "root"},
        r"ControlSet001\Services\vmbus": {"Start": 4, "ImagePath": "system32\\drivers\\vmbus.sys", "Type": 1},
        r"ControlSet001\Services\vmickvp\Parameters": {"ServiceDll": "%SystemRoot%\\System32\\icsvc.dll"},
        "Long": {"flat": b"f" * SEGMENT, "big": b"b" * (3 * SEGMENT + 5)},
    },
    sequences=(7, 7),
)


def editor(raw: bytes = HIVE, logs: dict[str, bytes] | None = None) -> HiveEditor:
    beside = [(name, BytesSource(log)) for name, log in (logs or {}).items()]
    return HiveEditor(Hive.open(BytesSource(raw), beside, path="SYSTEM"), now=NOW)


def edited(change: Callable[[HiveEditor], object], raw: bytes = HIVE) -> bytes:
    """The hive's file after a change, which the strict check finds sound."""
    started = editor(raw)
    assert change(started) is not False
    made = written(raw, started.finish())
    assert {problem.code for problem in check_hive(BytesSource(made))} <= WARNING_CODES
    return made


def key_of(raw: bytes, path: str) -> Key:
    found = Hive.open(BytesSource(raw)).key(path)
    assert found is not None
    return found


def node(raw: bytes, path: str, form: str, place: int) -> int:
    """A field of a key, by its offset in the public description."""
    return int(struct.unpack_from(form, raw, key_of(raw, path).offset + 4 + place)[0])


def refused(
    change: Callable[[HiveEditor], object], kind: type[VhdtoolError], code: str, raw: bytes = HIVE
) -> VhdtoolError:
    """The change raises, changes nothing, and leaves the editor usable."""
    before = hashlib.sha256(raw).digest()
    started = editor(raw)
    with pytest.raises(kind) as caught:
        change(started)
    assert caught.value.code == code
    made = started.finish()
    assert list(made.pieces()) == []
    assert hashlib.sha256(raw).digest() == before
    return caught.value
