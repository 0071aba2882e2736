"""Files made, replaced, resized and removed by libntfs-3g in its worker, judged by every other reader at hand."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dissect.ntfs
import pytest

from tests.fs import features
from tests.oracle.ntfs_accounting import DATA, Ledger
from tests.oracle.ntfs_steps import (
    STANDARD_INFORMATION,
    digest,
    made_by_windows,
    make,
    put,
    reader,
    record_of,
    refused,
    remove,
    resize,
    write,
)
from tests.oracle.ntfs_volumes import FileVolume, judge, new_volume, ours, require_library
from vhdtool.bytesource import BytesSource
from vhdtool.disk.chain import open_disk
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import OutputError
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.writer import FileWriter, open_writer

pytestmark = pytest.mark.oracle


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
