"""Messages between the writer and its worker: no process, one socket pair."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdtool.fs.worker_wire import (
    COMMANDS,
    HEADER,
    LONGEST_PAYLOAD,
    PIECE,
    QUESTIONS,
    Channel,
    Kind,
    WireError,
    header,
    pack_facts,
    pack_fields,
    pack_path,
    parse_header,
    unpack_facts,
    unpack_fields,
)


class Gone(BaseException):
    pass


def gone() -> None:
    raise Gone


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """The worker's end and the writer's."""
    theirs, ours = socket.socketpair()
    for one in (theirs, ours):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        one.settimeout(5)
    with theirs, ours:
        yield Channel(os.dup(theirs.fileno()), gone), ours


def taken(ours: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += ours.recv(count - len(data))
    return data


def test_header_has_the_layout_that_both_sides_agreed_on():
    assert header(Kind.READ, 0, 0x1122334455667788, 512) == struct.pack(
        "<B3xIQQ", Kind.READ, 0, 0x1122334455667788, 512
    )
    assert parse_header(header(Kind.WRITE, 7, 9, 0)) == (Kind.WRITE, 7, 9, 0)


@pytest.mark.parametrize("number", [0, 10, 31, 38, 255])
def test_an_unknown_kind_is_refused(number: int):
    with pytest.raises(WireError, match="not known"):
        parse_header(struct.pack("<B3xIQQ", number, 0, 0, 0))


def test_an_endless_payload_is_refused_on_both_sides():
    with pytest.raises(WireError, match="too long"):
        parse_header(struct.pack("<B3xIQQ", Kind.WRITE, LONGEST_PAYLOAD + 1, 0, 0))
    with pytest.raises(WireError, match="too long"):
        header(Kind.WRITE, LONGEST_PAYLOAD + 1)


def test_commands_and_questions_are_apart():
    assert not COMMANDS & QUESTIONS
    assert Kind.ANSWER not in COMMANDS | QUESTIONS
    assert Kind.WRITE not in QUESTIONS


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_fields_come_back(fields: list[bytes]):
    assert unpack_fields(pack_fields(fields)) == fields


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_refused(data: bytes):
    try:
        fields = unpack_fields(data)
    except WireError:
        return
    assert pack_fields(fields) == data


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=5))
def test_facts_come_back(facts: dict[str, str]):
    told = unpack_facts(pack_facts(facts))
    if all(text.isprintable() for pair in facts.items() for text in pair):
        assert told == facts


def test_a_fact_without_a_text_is_refused():
    with pytest.raises(WireError):
        unpack_facts(pack_fields([b"one"]))


def test_a_path_keeps_half_a_surrogate_pair():
    security, *names = unpack_fields(pack_path(["Größe", "\ud800x"], b"sd"))
    assert security == b"sd"
    assert names == ["Größe".encode("utf-16-le"), b"\x00\xd8x\x00"]


def test_a_message_is_received(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    ours.sendall(header(Kind.PUT, 3, 5, 6) + b"abc")
    message = channel.receive()
    assert (message.kind, message.first, message.second, bytes(message.payload)) == (Kind.PUT, 5, 6, b"abc")


def test_blocks_are_gathered_until_an_answer_is_waited_for(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    channel.write_block(10, memoryview(b"one"))
    channel.write_block(20, memoryview(b"two"))
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    ours.settimeout(5)
    ours.sendall(header(Kind.ANSWER, 4) + b"data")
    buffer = bytearray(4)
    assert channel.ask_into(Kind.READ, 30, memoryview(buffer)) == 4
    assert bytes(buffer) == b"data"
    expected = header(Kind.WRITE, 3, 10) + b"one" + header(Kind.WRITE, 3, 20) + b"two" + header(Kind.READ, 0, 30, 4)
    assert taken(ours, len(expected)) == expected


def test_a_long_block_is_sent_in_pieces(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    data = os.urandom(PIECE + 1000)
    channel.write_block(1, memoryview(b"x"))
    received = bytearray()

    def collect() -> None:
        while len(received) < len(data) + 1 + 3 * HEADER.size:
            received.extend(ours.recv(1 << 20))

    import threading  # noqa: PLC0415  # a megabyte does not fit into the socket

    reader = threading.Thread(target=collect)
    reader.start()
    channel.write_block(100, memoryview(data))
    channel.flush()
    reader.join(5)
    first = header(Kind.WRITE, 1, 1) + b"x" + header(Kind.WRITE, PIECE, 100)
    assert bytes(received[: len(first)]) == first
    second = len(first) + PIECE
    assert received[len(first) : second] == data[:PIECE]
    assert received[second : second + HEADER.size] == header(Kind.WRITE, 1000, 100 + PIECE)
    assert received[second + HEADER.size :] == data[PIECE:]


def test_bytes_are_asked_for_and_answered(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    ours.sendall(header(Kind.ANSWER, 2) + b"sd")
    assert channel.ask(Kind.INHERIT, 1, b"folder") == b"sd"
    assert taken(ours, HEADER.size + 6) == header(Kind.INHERIT, 6, 1) + b"folder"


@pytest.mark.parametrize("answer", [header(Kind.PUT), header(Kind.ANSWER, 9) + bytes(9)])
def test_a_wrong_answer_is_refused(pair: tuple[Channel, socket.socket], answer: bytes):
    channel, ours = pair
    ours.sendall(answer)
    with pytest.raises(WireError, match="answer"):
        channel.ask_into(Kind.READ, 0, memoryview(bytearray(8)))


def test_a_command_is_no_answer(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    ours.sendall(header(Kind.FINISH))
    with pytest.raises(WireError, match="answer"):
        channel.ask(Kind.INHERIT, 0, b"")


@pytest.mark.parametrize("half", [b"", header(Kind.PUT)[:10], header(Kind.PUT, 5) + b"ab"])
def test_the_other_side_being_gone_ends_the_worker(pair: tuple[Channel, socket.socket], half: bytes):
    channel, ours = pair
    ours.sendall(half)
    ours.close()
    with pytest.raises(Gone):
        channel.receive()


def test_writing_to_nobody_ends_the_worker(pair: tuple[Channel, socket.socket]):
    channel, ours = pair
    ours.close()
    channel.send(Kind.DONE)
    with pytest.raises(Gone):
        channel.flush()
