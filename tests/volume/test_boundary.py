from __future__ import annotations

import logging
import struct

import pytest

from tests.volume.memory import MemoryDevice
from vhdtool.errors import DamagedError, NotFoundError, UnsupportedError
from vhdtool.volume.boundary import MeteredStream, foreign_parser


@pytest.mark.parametrize(
    "error", [struct.error("x"), IndexError(), EOFError(), RecursionError(), MemoryError(), KeyError("k")]
)
def test_what_a_parser_raises_becomes_damage(error: Exception) -> None:
    with pytest.raises(DamagedError) as caught, foreign_parser("filesystem-damaged", "the volume", "/file"):
        raise error
    assert (caught.value.code, caught.value.path) == ("filesystem-damaged", "/file")
    assert caught.value.__cause__ is error


def test_own_errors_pass_and_what_is_not_implemented_is_unsupported() -> None:
    with pytest.raises(NotFoundError), foreign_parser("c", "w"):
        raise NotFoundError("no-such-file", "none")
    with pytest.raises(UnsupportedError), foreign_parser("c", "w"):
        raise NotImplementedError("clusters")


def test_what_dissect_logs_as_an_error_is_one_inside_only() -> None:
    logger = logging.getLogger("dissect.some.module")
    with pytest.raises(DamagedError, match="Zero-length"), foreign_parser("c", "w"):
        logger.critical("Zero-length directory entry")
    with foreign_parser("c", "w"):
        logger.info("fine")
    logger.critical("not ours")


def test_a_walk_without_an_end_runs_dry() -> None:
    stream = MeteredStream(MemoryDevice(bytes(4096)))
    stream.allow(0)
    with pytest.raises(DamagedError) as caught:
        [stream.read(1) for _ in iter(lambda: stream.seek(0), None)]
    assert caught.value.code == "endless-structure"
    stream.allow(0)
    stream.seek(0)
    assert len(stream.read()) == 4096


def test_large_reads_are_counted_by_what_is_there() -> None:
    stream = MeteredStream(MemoryDevice(bytes(4096)))
    assert len(stream.read(1 << 40)) == 4096
    buffer = bytearray(100)
    stream.seek(0)
    assert stream.readinto(buffer) == 100
