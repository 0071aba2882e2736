"""What libntfs-3g does wrong when it is called the obvious way, and that the writer does not.

The numbers are those of the notes that the writer was built by; traps 3 and 10 are in
``tests/oracle/test_ntfs_writer_failures.py`` and ``tests/fs/test_ntfs3g_worker.py``.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fs import features
from tests.oracle.ntfs_accounting import DATA, Ledger
from tests.oracle.ntfs_steps import (
    facts,
    made_by_windows,
    make,
    names_of,
    put,
    reader,
    record_of,
    refused,
    remove,
    resize,
    write,
)
from tests.oracle.ntfs_volumes import FileVolume, judge, new_volume, ours, require_library
from tests.tools import require_tool, run
from vhdtool.errors import OutputError
from vhdtool.fs import worker_process
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl, inherited
from vhdtool.fs.writer import FileWriter, open_writer

pytestmark = pytest.mark.oracle

POSIX, WIN32, DOS = 0, 1, 2
ARCHIVE, DIRECTORY = 0x20, 0x10000000


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    require_library()


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
    return made_by_windows(tmp_path / "windows")


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
