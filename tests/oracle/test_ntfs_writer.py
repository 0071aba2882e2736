"""Files made, replaced, resized and removed by libntfs-3g in its worker, judged by every other reader at hand.

The numbers of traps are those of the notes that the writer was built by: what this library does wrong when it is
called the obvious way.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dissect.ntfs
import pytest

from tests.data_files import data_file
from tests.fs import features
from tests.oracle.ntfs_accounting import DATA, FILE_NAME, Ledger
from tests.oracle.ntfs_volumes import FileVolume, judge, new_volume, ours, require_library
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.disk.chain import open_disk
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import OutputError, VhdtoolError
from vhdtool.fs import worker_process
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs3g_self_test import MemoryVolume
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl, inherited, parse_descriptor
from vhdtool.fs.writer import FileWriter, WriterReport, open_writer

pytestmark = pytest.mark.oracle

WINDOWS_VOLUME = "ntfs/fox-it__dissect.ntfs/ntfs.bin.gz"
POSIX, WIN32, DOS = 0, 1, 2
STANDARD_INFORMATION, SECURITY_DESCRIPTOR = 0x10, 0x50
ARCHIVE, DIRECTORY = 0x20, 0x10000000


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    require_library()


def write(path: Path, *steps: Callable[[FileWriter], None], sector: int = 512) -> WriterReport:
    """One session on a volume in a file."""
    with closing(FileVolume(path, sector)) as volume:
        writer = open_writer(volume)
        try:
            for step in steps:
                step(writer)
            return writer.finish()
        finally:
            writer.abort()


def reader(path: Path) -> NtfsFilesystem:
    """Our own reader over the volume as it is now."""
    return NtfsFilesystem(MemoryVolume(path.read_bytes()))


def record_of(path: Path, name: str) -> int:
    stat = reader(path).stat(name)
    assert stat is not None
    assert stat.record is not None
    return stat.record


def put(path: str, content: bytes, **options: Any) -> Callable[[FileWriter], None]:
    return lambda writer: writer.put(path, BytesSource(content), **options)


def make(path: str, **options: Any) -> Callable[[FileWriter], None]:
    return lambda writer: writer.make_directory(path, **options)


def remove(path: str) -> Callable[[FileWriter], None]:
    return lambda writer: writer.remove(path)


def resize(path: str, size: int) -> Callable[[FileWriter], None]:
    return lambda writer: writer.resize(path, size)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(path: Path, step: Callable[[FileWriter], None], code: str) -> None:
    """It is refused by that code, ends 4 or 1, and not a byte of the volume is another."""
    before = digest(path)
    with pytest.raises(VhdtoolError) as caught:
        write(path, step)
    assert caught.value.code == code
    assert caught.value.exit_code in (1, 4)
    assert digest(path) == before


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return new_volume(tmp_path / "volume")


@pytest.fixture
def feature_volume(tmp_path: Path) -> Path:
    path = tmp_path / "features"
    path.write_bytes(features.volume())
    return path


@pytest.fixture
def windows_volume(tmp_path: Path) -> Path:
    """The volume that Windows made, with room: three of its compressed files are removed."""
    path = tmp_path / "windows"
    path.write_bytes(data_file(WINDOWS_VOLUME).read_bytes())
    write(path, remove("/Large.txt"), remove("/Random.bin"), remove("/File.txt"))
    return path


def facts(path: Path, name: str) -> tuple[int, int, str]:
    """File attributes, security id, and the descriptor as text, by dissect and our reader's record number."""
    with path.open("rb") as file:
        volume = dissect.ntfs.NTFS(file)
        record = volume.mft.get(record_of(path, name))
        information = record.attributes[STANDARD_INFORMATION][0].attribute
        number = information.security_id
        if number:
            data = descriptors(volume.mft.get(9).open("$SDS").read())[number]
            assert not record.attributes.get(SECURITY_DESCRIPTOR), name
        else:
            data = record.attributes[SECURITY_DESCRIPTOR][0].data()
        return int(information.attr.FileAttributes), number, parse_descriptor(data).to_sddl()


def descriptors(stream: bytes) -> dict[int, bytes]:
    """$Secure:$SDS by number; the second copy of each block is the first's."""
    found = {}
    offset = 0
    while offset + 20 <= len(stream):
        _, number, place, size = struct.unpack_from("<IIQI", stream, offset)
        if size < 20:
            break
        assert place == offset
        assert stream[offset : offset + size] == stream[offset + 0x40000 :][:size]
        found[number] = stream[offset + 20 : offset + size]
        offset = -(-(offset + size) // 16) * 16
    return found


def names_of(path: Path, name: str) -> dict[str, int]:
    """The names of a file with their name spaces."""
    values = (one.value for one in Ledger(path).attributes(record_of(path, name), FILE_NAME))
    return {value[66:].decode("utf-16-le"): value[65] for value in values}


def upper(name: str) -> str:
    """In upper case as NTFS sees it: one unit for one unit."""
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in name)


CONTENTS = {
    "/empty": b"",
    "/small.txt": b"resident",
    "/Windows/Größe und mehr.txt": "Grüße\r\n".encode() * 40,
    "/Windows/System32/приёмка": os.urandom(300_001),
    "/Windows/System32/" + "x" * 251 + ".txt": b"long",
    "/😀 grin/漢字.bin": os.urandom(70_000),
}


@pytest.mark.parametrize(
    ("cluster", "sector", "mebibytes"), [(512, 512, 16), (4096, 512, 16), (65536, 512, 64), (4096, 4096, 16)]
)
def test_a_tree_is_written_as_everybody_reads_it(cluster: int, sector: int, mebibytes: int, tmp_path: Path) -> None:
    path = new_volume(tmp_path / "volume", mebibytes, cluster=cluster, sector=sector)
    folders = ("/Windows", "/Windows/System32", "/😀 grin", "/😀 grin/leer")
    steps = [*(make(name) for name in folders), *(put(name, content) for name, content in CONTENTS.items())]
    many = {f"/Windows/file number {number}.dat": bytes([number % 256]) * number for number in range(300)}
    report = write(path, *steps, *(put(name, content) for name, content in many.items()), sector=sector)
    tree = dict.fromkeys(folders) | CONTENTS | many
    judge(path, tree, sector=sector)
    assert report.bytes_written > sum(map(len, CONTENTS.values()))
    assert report.soname.startswith("libntfs-3g")
    gone = [name for number, name in enumerate(many) if number % 3]
    changed = {name: content[::-1] + b"changed" for name, content in CONTENTS.items()}
    write(
        path,
        *(remove(name) for name in gone),
        remove("/😀 grin/leer"),
        *(put(upper(name), content) for name, content in changed.items()),
        resize("/small.txt", 100_000),
        resize("/windows/SYSTEM32/приёмка", 1000),
        sector=sector,
    )
    for name in (*gone, "/😀 grin/leer"):
        del tree[name]
    tree |= changed
    tree["/small.txt"] = changed["/small.txt"].ljust(100_000, b"\0")
    tree["/Windows/System32/приёмка"] = changed["/Windows/System32/приёмка"][:1000]
    judge(path, tree, sector=sector)


def test_the_volume_that_windows_made(windows_volume: Path) -> None:
    before = {name: content for name, content in ours(windows_volume).items() if not name.startswith("/$")}
    noise = os.urandom(200_000)
    write(
        windows_volume,
        make("/Neu"),
        put("/Neu/Größe.bin", noise),
        put("/Directory/in a compressed directory.txt", b"plain " * 1000),
        *(put(f"/Large Directory/File {number}x.txt", b"small") for number in range(0, 300, 3)),
        *(remove(f"/Large Directory/File {number}x.txt") for number in range(0, 300, 9)),
        sector=512,
    )
    judge(windows_volume, mended=True)
    after = ours(windows_volume)
    assert {name: after[name] for name in before} == before
    made = {name for name in after.keys() - before.keys() if not name.startswith("/$")}
    expected = {f"/Large Directory/File {number}x.txt" for number in range(0, 300, 3) if number % 9}
    assert made == expected | {"/Neu", "/Neu/Größe.bin", "/Directory/in a compressed directory.txt"}
    assert after["/Neu/Größe.bin"] == noise


def test_a_session_that_changes_nothing_writes_nothing(volume: Path) -> None:
    """A clean mount and unmount leave the volume as it is, byte for byte."""
    before = digest(volume)
    report = write(volume)
    assert report.bytes_written == 0
    assert digest(volume) == before


@pytest.mark.parametrize("state", ["hibernated", "unclean", "log-2.0", "no-ntfs"])
def test_trap_1_a_volume_that_is_not_fit_is_never_mounted_read_only(state: str, volume: Path) -> None:
    spoil(volume, state)
    refused(volume, lambda writer: writer.make_directory("/a"), "ntfs-3g-refuses")


def spoil(path: Path, state: str) -> None:
    """States that the library finds itself; tests/fs/test_fitness.py has all that are found before."""
    if state == "hibernated":
        write(path, put("/hiberfil.sys", b"hibr".ljust(8192, b"\0")))
    elif state == "no-ntfs":
        with path.open("r+b") as file:
            file.write(b"\xeb\x58\x90-FVE-FS-")
    else:
        with path.open("r+b") as file:
            data = bytearray(file.read())
            (log,) = reader(path).open("/$LogFile").extents()
            page = restart_page(version=2 if state == "log-2.0" else 1)
            for place in (log.volume_offset, log.volume_offset + 4096):
                data[place : place + 4096] = page
            file.seek(0)
            file.write(data)


def restart_page(version: int) -> bytes:
    """A $LogFile restart page of a volume in use: one client, not clean (fs/ntfs3/fslog.c)."""
    page = bytearray(4096)
    struct.pack_into("<4sHHQIIHhh", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 64, version == 1, version)
    struct.pack_into("<QHHHHIHHQIHH", page, 64, 100, 1, 0xFFFF, 0, 0, 44, 224, 64, 2 << 20, 0, 48, 64)
    struct.pack_into("<QQHHHHI8s", page, 128, 0, 0, 0xFFFF, 0xFFFF, 0, 0, 8, "NTFS".encode("utf-16-le"))
    for sector in range(8):  # fixups
        page[32 + 2 * sector : 34 + 2 * sector] = page[510 + 512 * sector : 512 + 512 * sector]
        page[510 + 512 * sector : 512 + 512 * sector] = b"\1\0"
    page[30:32] = b"\1\0"
    return bytes(page)


def test_trap_2_a_directory_is_in_memory_once(volume: Path) -> None:
    """Names in one large directory, added and removed in turn: no entry is lost, none left over (judge counts)."""
    source = random.Random(2)
    tree: dict[str, bytes | None] = {"/d": None}
    steps = [make("/d")]
    for number in range(600):
        name = f"/d/{source.randrange(1000):04}{'y' * source.randrange(60)}"
        if name in tree or source.random() < 0.3:
            there = [one for one in tree if one.startswith("/d/")]
            if not there:
                continue
            name = source.choice(there)
            if source.random() < 0.5:
                del tree[name]
                steps.append(remove(name))
                continue
        tree[name] = bytes([number % 256]) * source.randrange(2000)
        steps.append(put(name, tree[name] or b""))
    write(volume, *steps)
    judge(volume, tree)


def test_trap_2_what_the_library_does_alone(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed without its directory, a file opens that a second time, finds itself missing there, and says so."""
    worker_with(
        monkeypatch,
        "v.MountedVolume._close = lambda self, inode, folder=None: "
        "self._fail('close') if self._library.ntfs_inode_close(inode) else None",
    )
    with pytest.raises(OutputError) as caught:
        write(volume, make("/d"), put("/d/f", b"x" * 3000))
    assert caught.value.code == "ntfs-writer-failed"


def worker_with(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Have the worker's own code changed before it starts: what a control test leaves out."""
    start = worker_process._START.replace("main()", f"import vhdtool.fs.ntfs3g_volume as v; {change}; main()")
    monkeypatch.setattr(worker_process, "_START", start)


def blocks_touched(path: Path, size: int, *steps: Callable[[FileWriter], None]) -> int:
    volume = FileVolume(path)
    writer = open_writer(volume)
    for step in steps:
        step(writer)
    writer.finish()
    volume.close()
    return len({offset // size for offset, _ in volume.written})


def test_trap_4_small_files_touch_few_blocks_of_the_image(tmp_path: Path) -> None:
    """60 files of 12 KB on 1 GiB, blocks of 4 MiB: the library alone spreads them over 60."""
    path = new_volume(tmp_path / "volume", 1024)
    steps = [put(f"/{number}", os.urandom(12_000)) for number in range(60)]
    assert blocks_touched(path, 4 << 20, *steps) <= 8


def test_trap_4_what_the_library_does_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the reset: if this fails, the library has been put right, or the test above shows nothing."""
    worker_with(monkeypatch, "v.MountedVolume._begin = lambda self: None")
    path = new_volume(tmp_path / "volume", 1024)
    steps = [put(f"/{number}", os.urandom(12_000)) for number in range(60)]
    assert blocks_touched(path, 4 << 20, *steps) > 40


class TestTrap5SecurityOfNewFiles:
    def test_what_is_given_is_what_is_stored(self, volume: Path) -> None:
        folder, file = from_sddl(STAGED_DIRECTORY).to_bytes(), from_sddl(STAGED_FILE).to_bytes()
        write(volume, make("/s", security=folder), put("/s/run.cmd", b"@echo", security=file))
        assert facts(volume, "/s")[2] == STAGED_DIRECTORY
        assert facts(volume, "/s/run.cmd")[2] == STAGED_FILE
        judge(volume, {"/s": None, "/s/run.cmd": b"@echo"})
        told = run(require_tool("ntfssecaudit"), "-v", str(volume), "/s/run.cmd").stdout.decode()
        assert "Windows owner S-1-5-32-544" in told
        assert "Windows group S-1-5-18" in told

    def test_the_same_descriptor_is_stored_once(self, volume: Path) -> None:
        file = from_sddl(STAGED_FILE).to_bytes()
        write(volume, *(put(f"/{number}", b"", security=file) for number in range(5)))
        assert len({facts(volume, f"/{number}")[1] for number in range(5)}) == 1

    def test_without_one_the_folder_decides(self, volume: Path) -> None:
        text = "O:BAG:SYD:AI(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;CI;FR;;;BU)"
        write(
            volume,
            make("/d", security=from_sddl(text).to_bytes()),
            make("/d/sub"),
            put("/d/file", b""),
            put("/d/sub/file", b""),
        )
        folder = from_sddl(text)
        below = inherited(folder, directory=True)
        assert facts(volume, "/d/sub")[2] == below.to_sddl()
        assert facts(volume, "/d/file")[2] == "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)"
        assert facts(volume, "/d/sub/file")[2] == inherited(below, directory=False).to_sddl()

    def test_in_a_root_that_keeps_its_own_descriptor(self, windows_volume: Path) -> None:
        """Such a root has no number to give to ntfs_create, which then allows everybody everything for a moment."""
        assert facts(windows_volume, "/")[1] == 0
        write(windows_volume, put("/new.txt", b""), make("/New"))
        assert facts(windows_volume, "/new.txt")[2] == (
            "O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1301bf;;;AU)(A;;0x1200a9;;;BU)"
        )
        assert "WD" not in facts(windows_volume, "/New")[2]

    def test_a_file_that_is_replaced_keeps_its_own(self, volume: Path) -> None:
        file = from_sddl(STAGED_FILE).to_bytes()
        write(volume, put("/f", b"1", security=file))
        write(volume, put("/f", b"2"))
        assert facts(volume, "/f")[2] == STAGED_FILE
        write(volume, put("/f", b"3", security=from_sddl("O:SYG:SYD:(A;;FR;;;WD)").to_bytes()))
        assert facts(volume, "/f")[2] == "O:SYG:SYD:(A;;FR;;;WD)"

    def test_many_descriptors(self, volume: Path) -> None:
        """$Secure and its two indexes grow past what fits into their roots."""
        texts = {f"/{number}": f"O:BAG:SYD:P(A;;FA;;;S-1-5-21-1-2-3-{number})" for number in range(150)}
        write(volume, *(put(name, b"", security=from_sddl(text).to_bytes()) for name, text in texts.items()))
        for name in ("/0", "/77", "/149"):
            assert facts(volume, name)[2] == texts[name]
        judge(volume, dict.fromkeys(texts, b""))


def test_trap_6_names_are_in_the_space_that_windows_uses_where_it_makes_no_short_ones(windows_volume: Path) -> None:
    theirs = names_of(windows_volume, "/Directory") | names_of(windows_volume, "/Directory/File 1.txt")
    assert set(theirs.values()) == {POSIX}
    write(windows_volume, put("/Directory/8dot3.txt", b""), make("/Directory/a long name.with dots"))
    assert names_of(windows_volume, "/Directory/8dot3.txt") == {"8dot3.txt": POSIX}
    assert names_of(windows_volume, "/Directory/a long name.with dots") == {"a long name.with dots": POSIX}


class TestNamesWithAShortForm:
    """A file that has a long and a DOS name has two names in its record, and is one link."""

    def test_it_is_replaced_in_place_and_keeps_both(self, feature_volume: Path) -> None:
        before = reader(feature_volume).stat("/" + features.LONG_NAME)
        write(feature_volume, put("/" + features.SHORT_NAME.lower(), b"new content"))
        after = reader(feature_volume).stat("/" + features.LONG_NAME)
        assert before is not None
        assert after is not None
        assert (after.record, after.size) == (before.record, 11)
        assert names_of(feature_volume, "/" + features.LONG_NAME) == {
            features.LONG_NAME: WIN32,
            features.SHORT_NAME: DOS,
        }
        judge(feature_volume, archive=False)

    @pytest.mark.parametrize("name", [features.LONG_NAME, features.SHORT_NAME, features.LONG_NAME.upper()])
    def test_both_go_together(self, name: str, feature_volume: Path) -> None:
        write(feature_volume, remove("/" + name))
        there = ours(feature_volume)
        assert not {"/" + features.LONG_NAME, "/" + features.SHORT_NAME} & there.keys()
        judge(feature_volume, archive=False)


class TestHardLinks:
    OLD = "/hardlinks/003 a name of some length, of which one record holds not many"
    OTHER = "/hardlinks/004 a name of some length, of which one record holds not many"

    def test_a_name_that_is_put_gets_a_file_of_its_own(self, feature_volume: Path) -> None:
        before = ours(feature_volume)
        flags, _, security = facts(feature_volume, self.OLD)
        write(feature_volume, put(self.OLD.upper(), b"only here"))
        after = ours(feature_volume)
        assert after == before | {self.OLD: b"only here"}
        assert facts(feature_volume, self.OLD)[2] == security
        assert facts(feature_volume, self.OLD)[0] == flags | ARCHIVE
        judge(feature_volume, archive=False)

    def test_a_name_that_is_removed_leaves_the_others(self, feature_volume: Path) -> None:
        before = ours(feature_volume)
        write(feature_volume, remove(self.OLD), remove(self.OTHER))
        del before[self.OLD], before[self.OTHER]
        assert ours(feature_volume) == before
        judge(feature_volume, archive=False)


class TestTrap7Case:
    def test_a_folder_is_found_and_not_made_a_second_time(self, volume: Path) -> None:
        write(volume, make("/Drivers"), put("/DRIVERS/Größe.SYS", b"1"))
        write(volume, put("/drivers/GRÖSSE.sys", b"2"), put("/drivers/gröẞe.sys", b"3"))
        refused(volume, make("/dRIVERS"), "name-taken")
        tree = {"/Drivers": None, "/Drivers/Größe.SYS": b"1", "/Drivers/GRÖSSE.sys": b"2", "/Drivers/gröẞe.sys": b"3"}
        judge(volume, tree)

    def test_names_keep_their_spelling(self, volume: Path) -> None:
        write(volume, put("/ReadMe.TXT", b"1"), put("/README.txt", b"2"))
        judge(volume, {"/ReadMe.TXT": b"2"})

    def test_names_in_letters_whose_upper_case_is_special(self, feature_volume: Path) -> None:
        """By the volume's own table, not by Python's upper()."""
        before = ours(feature_volume)
        chosen = features.NAMES[::7]
        write(feature_volume, *(put(f"/names/{name}", b"again " + name.encode()) for name in chosen))
        write(feature_volume, *(remove(f"/names/{name}") for name in chosen[1::2]))
        expected = before | {f"/names/{name}": b"again " + name.encode() for name in chosen[::2]}
        assert ours(feature_volume) == {
            name: content for name, content in expected.items() if name not in {f"/names/{one}" for one in chosen[1::2]}
        }
        judge(feature_volume, archive=False)


def test_trap_8_named_streams_are_never_taken_for_the_content(volume: Path, tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    stream.write_bytes(b"[ZoneTransfer]\r\nZoneId=3\r\n" * 100)
    write(volume, make("/d"), put("/d/f", b"content"))
    run(require_tool("ntfscp"), "-q", "-N", "Zone.Identifier", str(volume), str(stream), "/d/f")
    write(volume, put("/d/f", b"other content" * 1000), resize("/d/f", 200_000))
    ledger = Ledger(volume)
    kept = ledger.attributes(record_of(volume, "/d/f"), DATA, "Zone.Identifier".encode("utf-16-le"))
    assert ledger.content(kept) == stream.read_bytes()
    judge(volume)
    assert ours(volume) == {"/d": None, "/d/f": (b"other content" * 1000).ljust(200_000, b"\0")}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/compressed/words.txt", "file-compressed"),
        ("/compressed/noise.bin", "file-compressed"),
        (f"/{features.SPARSE}", "file-sparse"),
        ("/dedup", "file-reparse"),
        ("/Directory/up", "file-reparse"),
        ("/junction", "file-reparse"),
    ],
)
def test_trap_9_what_is_not_stored_plainly_is_refused(name: str, code: str, feature_volume: Path) -> None:
    refused(feature_volume, put(name, b"x"), code)
    refused(feature_volume, resize(name, 5_000_000), code)


def test_trap_9_an_encrypted_file_is_refused(volume: Path) -> None:
    write(volume, put("/f", b"secret"))
    data = volume.read_bytes()
    record = data.index("f".encode("utf-16-le"), data.index(b"FILE0", data.index(b"secret") - 1024))
    assert record
    information = data.index(struct.pack("<II", 0x10, 0x60), data.rindex(b"FILE0", 0, data.index(b"secret")))
    with volume.open("r+b") as file:
        file.seek(information + 24 + 32)
        file.write(struct.pack("<I", 0x4020))
    refused(volume, put("/f", b"x"), "file-encrypted")


def test_trap_9_what_is_made_in_a_compressed_directory_is_plain(feature_volume: Path) -> None:
    noise = os.urandom(100_000)
    write(
        feature_volume,
        put("/compressed/new.bin", noise),
        make("/compressed/sub"),
        put("/compressed/sub/a", b"a" * 9999),
    )
    filesystem = reader(feature_volume)
    for name in ("new.bin", "sub/a"):
        stat = filesystem.stat(f"/compressed/{name}")
        assert stat is not None
        assert stat.storage is None
    assert ours(feature_volume)["/compressed/new.bin"] == noise
    judge(feature_volume, archive=False)


def test_attributes_of_what_is_made(volume: Path) -> None:
    """The library marks new directories for the archive, in the record and in the directory above."""
    write(volume, make("/d"), put("/f", b"x"))
    assert facts(volume, "/d")[0] == 0
    assert facts(volume, "/f")[0] == ARCHIVE
    listed = {key[66:].decode("utf-16-le"): struct.unpack_from("<I", key, 56)[0] for key in Ledger(volume).keys_of(5)}
    assert listed["d"] == DIRECTORY
    assert listed["f"] == ARCHIVE


def test_trap_11_flags_of_the_volume_stay_as_they_are(windows_volume: Path) -> None:
    """Windows sets 0x80; the library's own call to set flags would drop it."""
    assert reader(windows_volume).volume_flags == 0x80
    write(windows_volume, make("/x"))
    assert reader(windows_volume).volume_flags == 0x80


class TestSizes:
    @pytest.mark.parametrize("old", [0, 10, 700, 5000, 100_000])
    @pytest.mark.parametrize("new", [0, 10, 700, 5000, 100_000, 1_300_000])
    def test_new_bytes_are_zeros_that_are_on_the_volume(self, old: int, new: int, volume: Path) -> None:
        content = os.urandom(old)
        write(volume, put("/noise", b"\xee" * 3_000_000), remove("/noise"))
        write(volume, put("/hive", content), resize("/hive", new))
        judge(volume, {"/hive": content[:new].ljust(new, b"\0")})
        (data,) = Ledger(volume).attributes(record_of(volume, "/hive"), DATA)
        assert data.flags == 0  # a plain truncate would have made it sparse
        assert data.initialized == data.size == new
        assert all(cluster is not None for cluster, _ in data.runs)

    def test_a_file_of_many_pieces_grows(self, volume: Path) -> None:
        """Free space in holes of one cluster: the library can't have much of it at once, and says that it is full."""
        write(volume, *(put(f"/{number}", b"x" * 4096) for number in range(1500)))
        write(volume, put("/rest", bytes(free_bytes(volume) - (1 << 20))))
        write(volume, *(remove(f"/{number}") for number in random.Random(7).sample(range(1500), 750)))
        content = os.urandom(free_bytes(volume) - (512 << 10))
        write(
            volume,
            put("/pieces", content[: len(content) // 2]),
            resize("/pieces", len(content)),
            put("/pieces", content),
        )
        judge(volume)
        assert ours(volume)["/pieces"] == content
        assert sum(len(one.runs) for one in Ledger(volume).attributes(record_of(volume, "/pieces"), DATA)) > 200

    def test_a_full_volume_is_told_by_its_name(self, volume: Path) -> None:
        with pytest.raises(OutputError) as caught:
            write(volume, put("/f", bytes(17 << 20)))
        assert (caught.value.code, caught.value.exit_code) == ("volume-full", 7)


def free_bytes(path: Path) -> int:
    ledger = Ledger(path)
    used = sum(byte.bit_count() for byte in ledger.content(ledger.attributes(6, DATA)))
    return (ledger.clusters - used) * ledger.cluster


class TestTimes:
    def test_a_given_time_is_kept_to_the_microsecond(self, volume: Path) -> None:
        moment = datetime(2017, 5, 9, 1, 2, 3, 456789, UTC)
        write(volume, put("/f", b"x", modified=moment))
        filesystem = reader(volume)
        stat = filesystem.stat("/f")
        assert stat is not None
        assert stat.modified == moment
        assert filesystem.list("/")[-1].modified == moment  # the directory's copy

    def test_without_one_it_is_now_and_the_time_of_creation_stays(self, volume: Path) -> None:
        write(volume, put("/f", b"x"))
        created = times(volume, "/f")[0]
        time.sleep(0.02)
        write(volume, put("/f", b"y"))
        again = times(volume, "/f")
        assert again[0] == created
        assert again[1] > created
        assert abs(again[1] - datetime.now(UTC)) < timedelta(minutes=1)


def times(path: Path, name: str) -> tuple[datetime, datetime]:
    """Creation and modification by dissect."""
    with path.open("rb") as file:
        information = (
            dissect.ntfs.NTFS(file).mft.get(record_of(path, name)).attributes[STANDARD_INFORMATION][0].attribute
        )
        return information.creation_time, information.last_modification_time


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (put("/absent/f", b""), "no-such-folder"),
        (make("/absent/d"), "no-such-folder"),
        (remove("/absent"), "no-such-file"),
        (resize("/absent", 1), "no-such-file"),
        (put("/d/f/below", b""), "not-a-directory"),
        (put("/d", b""), "not-a-file"),
        (resize("/d", 1), "not-a-file"),
        (remove("/d"), "directory-not-empty"),
        (make("/d"), "name-taken"),
        (make("/d/f"), "name-taken"),
        (remove("/$MFT"), "file-system-file"),
        (put("/$Secure", b""), "file-system-file"),
        (resize("/$LogFile", 0), "file-system-file"),
        (remove("/"), "file-system-file"),
        (put("/d/con", b""), "name-not-allowed"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    step: Callable[[FileWriter], None], code: str, volume: Path
) -> None:
    write(volume, make("/d"), put("/d/f", b"x"))
    refused(volume, step, code)


def test_a_path_through_a_link_is_refused(feature_volume: Path) -> None:
    refused(feature_volume, put("/junction/new", b""), "reparse-on-path")


def test_links_are_removed_and_not_followed(feature_volume: Path) -> None:
    before = ours(feature_volume)
    write(feature_volume, remove("/junction"))
    after = ours(feature_volume)
    assert after.keys() == before.keys() - {"/junction"}
    judge(feature_volume, archive=False)


def test_a_directory_that_was_large_can_be_removed_when_it_is_empty(volume: Path) -> None:
    names = [f"/d/{number} {'z' * 100}" for number in range(200)]
    write(volume, make("/d"), *(put(name, b"") for name in names))
    write(volume, *(remove(name) for name in names), remove("/d"))
    judge(volume, {})


def test_names_that_are_no_valid_unicode(volume: Path) -> None:
    names = ["\ud800", "a\udfffb", "\udc00\ud800"]
    write(volume, *(put("/" + name, name.encode("utf-16-le", "surrogatepass")) for name in names))
    assert spelled(volume) == {name.encode("utf-16-le", "surrogatepass") for name in names}
    write(volume, put("/" + names[0], b"again"), *(remove("/" + name) for name in names[1:]))
    assert spelled(volume) == {b"\x00\xd8"}
    Ledger(volume).check()


def spelled(path: Path) -> set[bytes]:
    """The names in the root, but those of the file system's own files."""
    return {key[66 : 66 + 2 * key[64]] for key in Ledger(path).keys_of(5) if not key[66:].startswith((b"$\0", b".\0"))}


def test_through_an_overlay_the_image_stays_as_it_is(volume: Path) -> None:
    before = digest(volume)
    with open_disk(str(volume)) as disk, Overlay(disk) as overlay:
        writer = open_writer(overlay)
        writer.put("/f", BytesSource(b"overlay"))
        writer.finish()
        file = NtfsFilesystem(overlay).open("/f")
        assert file.read_at(0, file.size) == b"overlay"
        copy = io.BytesIO()
        copy.write(overlay.read_at(0, overlay.size))
    assert digest(volume) == before
    target = volume.with_suffix(".after")
    target.write_bytes(copy.getvalue())
    judge(target, {"/f": b"overlay"})


def test_progress_is_told_in_bytes(volume: Path) -> None:
    told: list[tuple[str, object]] = []

    class Listener:
        def start(self, what: str, total: int) -> None:
            told.append((what, total))

        def advance(self, done: int) -> None:
            told.append(("advance", done))

        def finish(self) -> None:
            told.append(("finish", None))

    device = FileVolume(volume)
    writer = open_writer(device, progress=Listener())
    writer.put("/f", BytesSource(bytes(2_500_000)))
    writer.finish()
    device.close()
    assert told[0] == ("/f", 2_500_000)
    assert sum(done for what, done in told if what == "advance" and isinstance(done, int)) == 2_500_000
    assert told[-1] == ("finish", None)


def test_200_mib_go_in_at_100_mb_a_second(tmp_path: Path) -> None:
    """End to end, into an overlay; the best of three, for the machine may be shared."""
    path = new_volume(tmp_path / "volume", 1024)
    size = 200 << 20

    class Content:
        def __init__(self) -> None:
            self.size = size
            self.piece = os.urandom(1 << 20)

        def read_at(self, offset: int, length: int) -> bytes:
            return self.piece[:length]

    rates = []
    for _ in range(3):
        with open_disk(str(path)) as disk, Overlay(disk, spool_folder=tmp_path) as overlay:
            started = time.monotonic()
            writer = open_writer(overlay)
            writer.put("/big.bin", Content())
            writer.finish()
            rates.append(size / 1e6 / (time.monotonic() - started))
    assert max(rates) >= 100, rates
