"""The journal's file format."""

from __future__ import annotations

import hashlib
import random
import zlib
from pathlib import Path
from uuid import UUID

import pytest

from vhdtool.bytesource import BytesSource
from vhdtool.disk.device import FileDevice
from vhdtool.disk.host_store import OS_STORE
from vhdtool.disk.journal import (
    MARK_MAGIC,
    ImageFacts,
    Journal,
    is_marked,
    journal_name,
    mark_of,
    read_journal,
    write_journal,
)
from vhdtool.errors import DamagedError, UnsupportedError, VhdtoolError

ID = bytes(range(16))
OWNER = UUID(int=3)
FOOTER = b"conectix".ljust(512, b"f")
OLD = random.Random(1).randbytes(40960)
PIECES = [(512, b"n" * 1024), (8192, random.Random(2).randbytes(4096)), (39936, b"z" * 512)]


def make(path: Path, footer: bytes = FOOTER, *, head: bool = True) -> ImageFacts:
    facts = ImageFacts(len(OLD) + len(footer), OWNER if footer else None, footer)
    file = OS_STORE.create(str(path))
    first = write_journal(file, ID, facts, ((at, new, OLD[at : at + len(new)]) for at, new in PIECES))
    if head:
        file.write_at(0, first)
    file.close()
    return facts


def read(path: Path) -> Journal | None:
    file = FileDevice(path)
    try:
        return read_journal(file)
    except VhdtoolError:
        file.close()
        raise


def applied(data: bytes) -> bytes:
    new = bytearray(data)
    for offset, piece in PIECES:
        new[offset : offset + len(piece)] = piece
    return bytes(new)


@pytest.mark.parametrize("footer", [FOOTER, FOOTER[:511], b""])
def test_it_is_read_as_written(tmp_path, footer):
    path = tmp_path / "journal"
    facts = make(path, footer)
    journal = read(path)
    assert journal is not None
    assert (journal.image, journal.journal_id, journal.footer_offset) == (facts, ID, len(OLD))
    assert list(journal.pieces()) == PIECES
    source = journal.over(BytesSource(OLD + mark_of(ID)[: len(footer)]))
    assert source.read_at(0, 1 << 20) == applied(OLD) + footer
    journal.file.close()


def test_the_layout_is_what_the_format_says(tmp_path):
    path = tmp_path / "journal"
    make(path)
    data = path.read_bytes()
    assert data[:16] == b"vhdtool journal\0"
    assert data[16:56] == (1).to_bytes(4, "little") + (512).to_bytes(4, "little") + ID + OWNER.bytes
    size, image, table = len(data), len(OLD) + 512, len(data) - 3 * 24
    numbers = (image, size, table, 3)
    assert data[56:88] == b"".join(number.to_bytes(8, "little") for number in numbers)
    unsealed = data[:88] + bytes(32) + data[120:512]
    assert data[88:120] == hashlib.sha256(unsealed + hashlib.sha256(data[512:]).digest()).digest()
    assert data[512:1024] == FOOTER
    assert data[1024:2048] == PIECES[0][1]
    crcs = b"".join(zlib.crc32(OLD[at : at + 512]).to_bytes(4, "little") for at in (512, 1024))
    assert data[2048:2056] == crcs
    assert data[table : table + 24] == (512).to_bytes(8, "little") + (1024).to_bytes(8, "little") + (1024).to_bytes(
        4, "little"
    ) + bytes(4)


def test_without_its_first_sector_it_is_none(tmp_path):
    path = tmp_path / "journal"
    make(path, head=False)
    assert read(path) is None
    path.write_bytes(b"")
    assert read(path) is None


def test_any_flipped_byte_is_seen(tmp_path):
    path = tmp_path / "journal"
    make(path)
    data = path.read_bytes()
    source = random.Random(5)
    for place in [*range(512), *(source.randrange(512, len(data)) for _ in range(200))]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << source.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(VhdtoolError) as caught:
            read(path)
        assert caught.value.code in {"journal-damaged", "journal-version-unsupported"}


@pytest.mark.parametrize("length", [1, 511, 512, 1000, 5000])
def test_a_journal_that_is_cut_off_is_seen(tmp_path, length):
    path = tmp_path / "journal"
    make(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedError):
        read(path)


def sealed(data: bytearray) -> bytes:
    data[88:120] = bytes(32)
    data[88:120] = hashlib.sha256(bytes(data[:512]) + hashlib.sha256(data[512:]).digest()).digest()
    return bytes(data)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 511), (0, 1 << 63), (0, 40960), (8, 0), (8, 1 << 40), (8, 2048), (16, 0), (16, 100), (16, 1 << 31),
        (24, 0), (24, 512), (-8, 1 << 20), (-24, 8192),
    ],
)  # fmt: skip
def test_a_sealed_record_that_lies_where_it_cannot(tmp_path, at, value):
    path = tmp_path / "journal"
    make(path)
    data = bytearray(path.read_bytes())
    place = len(data) - 3 * 24 + at if at >= 0 else len(data) + at
    width = 4 if at in {16, -8} else 8
    data[place : place + width] = value.to_bytes(width, "little")
    path.write_bytes(sealed(data))
    with pytest.raises(DamagedError, match="lies where it can't"):
        read(path)


@pytest.mark.parametrize(("at", "value"), [(16, 2), (20, 513), (64, 1), (72, 0), (72, 1 << 62), (80, 1 << 60), (80, 2)])
def test_a_sealed_head_that_cannot_be(tmp_path, at, value):
    path = tmp_path / "journal"
    make(path)
    data = bytearray(path.read_bytes())
    width = 4 if at < 24 else 8
    data[at : at + width] = value.to_bytes(width, "little")
    path.write_bytes(sealed(data))
    with pytest.raises((DamagedError, UnsupportedError)):
        read(path)


def test_to_which_image_it_belongs(tmp_path):
    path = tmp_path / "journal"
    make(path)
    journal = read(path)
    assert journal is not None

    def belongs(data: bytes) -> bool:
        return journal.belongs_to(BytesSource(data))

    new = applied(OLD)
    assert belongs(OLD + FOOTER)
    assert belongs(new + FOOTER)
    assert belongs(OLD[:8704] + new[8704:9216] + OLD[9216:] + FOOTER)  # one sector of a record is done
    assert not belongs(OLD + FOOTER + b"x")
    assert not belongs(OLD + FOOTER.replace(b"f", b"g"))
    assert not belongs(OLD[:600] + b"#" + OLD[601:] + FOOTER)
    assert not belongs(OLD + mark_of(bytes(16)))
    assert belongs(OLD[:600] + b"#" + OLD[601:] + mark_of(ID))  # the image says itself that it waits for it
    journal.file.close()


def test_a_raw_image_is_known_by_its_sectors(tmp_path):
    path = tmp_path / "journal"
    make(path, b"")
    journal = read(path)
    assert journal is not None
    assert journal.belongs_to(BytesSource(OLD))
    assert journal.belongs_to(BytesSource(applied(OLD)))
    assert not journal.belongs_to(BytesSource(OLD[:600] + b"#" + OLD[601:]))
    journal.file.close()


@pytest.mark.parametrize("size", [512, 511])
def test_a_mark_is_known_in_the_place_of_either_footer(size):
    mark = mark_of(ID)
    assert len(mark) == 512
    assert b"vhdtool recover" in mark
    assert is_marked(BytesSource(OLD + mark[:size]))
    assert not is_marked(BytesSource(OLD + FOOTER[:size]))
    assert not is_marked(BytesSource(MARK_MAGIC[:8]))
    assert not is_marked(BytesSource(b""))


@pytest.mark.parametrize("length", [0, 100, (1 << 20) + 512])
def test_records_are_whole_sectors(tmp_path, length):
    file = OS_STORE.create(str(tmp_path / "journal"))
    with pytest.raises(ValueError, match="whole sectors"):
        write_journal(file, ID, ImageFacts(1 << 22), [(0, bytes(length), bytes(length))])
    file.close()


def test_its_name_is_that_of_the_file_itself(tmp_path):
    image, link = tmp_path / "disk.img", tmp_path / "link"
    image.touch()
    link.symlink_to(image)
    assert journal_name(str(link)) == journal_name(str(image)) == f"{image.resolve()}.vhdtool-journal"
