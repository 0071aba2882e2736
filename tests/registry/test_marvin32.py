"""Marvin32 against published vectors, through an implementation as the description has it, step by step."""

from __future__ import annotations

import random

import pytest

from vhdtool.registry.marvin32 import marvin32

WORD = 0xFFFFFFFF
SEED = 0x82EF4D887A4E55C5  # regf specification, "Log entries"

VECTORS = [  # with the seed 0x004fb61a001bdbcc (public domain, skeeto/marvin32)
    ("", 0x30ED35C100CD3C7D),
    ("af", 0x48E73FC77D75DDC1),
    ("e70f", 0xB5F6E1FC485DBFF8),
    ("37f495", 0xF0B07C789B8CF7E8),
    ("8642dc59", 0x7008F2E87E9CF556),
]


def rotated(value: int, count: int) -> int:
    return (value << count | value >> 32 - count) & WORD


class Marvin:
    def __init__(self, seed: int) -> None:
        self.low, self.high = seed & WORD, seed >> 32

    def mix(self, value: int) -> None:
        self.low = (self.low + value) & WORD
        self.high ^= self.low
        self.low = (rotated(self.low, 20) + self.high) & WORD
        self.high = rotated(self.high, 9) ^ self.low
        self.low = (rotated(self.low, 27) + self.high) & WORD
        self.high = rotated(self.high, 19)


def step_by_step(data: bytes, seed: int) -> int:
    marvin = Marvin(seed)
    whole = len(data) // 4 * 4
    for place in range(0, whole, 4):
        marvin.mix(int.from_bytes(data[place : place + 4], "little"))
    marvin.mix(int.from_bytes(data[whole:] + b"\x80", "little"))
    marvin.mix(0)
    return marvin.high << 32 | marvin.low


@pytest.mark.parametrize(("data", "value"), VECTORS)
def test_the_reference_gives_the_published_values(data: str, value: int) -> None:
    assert step_by_step(bytes.fromhex(data), 0x004FB61A001BDBCC) == value


@pytest.mark.parametrize("length", [*range(20), 32, 511, 512, 4097])
def test_equals_the_reference(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert marvin32(data) == step_by_step(data, SEED)


def test_words_that_carry() -> None:
    for data in (b"\xff" * 64, b"\0" * 64, b"\x80\0\0\0" * 16):
        assert marvin32(data) == step_by_step(data, SEED)
