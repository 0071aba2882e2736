"""Cabinets as cabextract and 7-Zip see them: the collection's, genuine and hostile, and those our tests make."""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from scripts.fixtures.cab_files import (
    LZX,
    MSZIP,
    SIGNATURE_ROOM,
    STORED,
    CabFile,
    CabFolder,
    Reserves,
    build_cab,
    build_set,
    sign_with,
)
from tests.data_files import data_dir, data_file
from tests.tools import require_tool, run
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.package.cabinet import Cabinet

pytestmark = pytest.mark.oracle

SPLIT = [f"cab/kyz__libmspack/split-{number}.cab" for number in range(1, 6)]
BASIC = [f"cab/kyz__libmspack/multi_basic_pt{number}.cab" for number in range(1, 6)]
REFUSED = {
    "CVE-2014-9556.cab": "cabinet-damaged",  # a file of 4 GiB in one block
    "CVE-2015-4470.cab": "cabinet-version-unknown",
    "CVE-2015-4471.cab": "cabinet-damaged",
    "bad_folderindex.cab": "cabinet-damaged",
    "bad_nofiles.cab": "cabinet-damaged",
    "bad_nofolders.cab": "cabinet-damaged",
    "cve-2017-11423-fname-overread.cab": "cabinet-damaged",
    "hidden-files.cab": "cabinet-damaged",  # its header leads to another file table than its layout
    "huge-lzx15.cab": "cabinet-too-large",
    "huge-lzx21.cab": "cabinet-too-large",
    "partial_str_shortfname.cab": "cabinet-damaged",
    "qtm-max-size-block.cab": "cabinet-damaged",  # does not decode, says cabextract too
    "search_tricky1.cab": "cabinet-version-unknown",  # a cabinet inside something that looks like one
    "setup.exe": "not-a-cabinet",
    "setup.exe.mui": "not-a-cabinet",
    **dict.fromkeys([Path(name).name for name in SPLIT + BASIC], "cabinet-part-missing"),
}
"""The files of the collection that are not read whole, and why; all others are, to the last byte."""


def collection() -> list[str]:
    folder = data_dir()
    return [] if folder is None else sorted(str(path.relative_to(folder)) for path in folder.glob("cab/*/*"))


def opened(data: bytes, path: str = "a.cab", next_parts: list[tuple[str, BytesSource]] | None = None) -> Cabinet:
    return Cabinet.open(BytesSource(data), path=path, next_parts=next_parts or [])


def sums(cabinet: Cabinet) -> Counter[str]:
    """The digests of all files, of names of which tools make different things."""
    return Counter(hashlib.md5(data, usedforsecurity=False).hexdigest() for _, data in cabinet.read_all())


def cabextract_sums(path: Path) -> Counter[str]:
    done = run(require_tool("cabextract"), "-t", str(path))
    return Counter(
        words[-1] for line in done.stdout.decode("latin-1").splitlines() if (words := line.split())[-2:-1] == ["OK"]
    )


@pytest.mark.data
@pytest.mark.parametrize("name", collection() or ["cab/absent"])
def test_the_collection(name: str) -> None:
    path = data_file(name)
    data = path.read_bytes()
    started = time.perf_counter()
    expected = REFUSED.get(path.name)
    if expected is None:
        cabinet = opened(data, str(path))
        assert sums(cabinet) == cabextract_sums(path)
        assert sum(member.size for member in cabinet.members) == sum(len(one) for _, one in cabinet.read_all())
    else:
        with pytest.raises(VhdtoolError) as caught:
            sums(opened(data, str(path)))
        assert (caught.value.code, caught.value.path) == (expected, str(path))
    assert time.perf_counter() - started < 10


@pytest.mark.data
def test_hostile_files_cost_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("huge-lzx15.cab", "huge-lzx21.cab", "large-files-cab.cab", "cve-2010-2801-qtm-flush.cab"):
        data = data_file(f"cab/kyz__libmspack/{name}").read_bytes()
        try:
            sums(opened(data))
        except VhdtoolError as error:
            assert error.code == REFUSED[name]  # noqa: PT017  # the others do not fail
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 128 << 10  # KiB


@pytest.mark.data
@pytest.mark.parametrize("names", [SPLIT, BASIC])
def test_real_sets(names: list[str], tmp_path: Path) -> None:
    paths = [data_file(name) for name in names]
    parts = [(path.name, BytesSource(path.read_bytes())) for path in paths]
    cabinet = opened(paths[0].read_bytes(), "first", parts[1:])
    assert cabinet.problems == ()
    copies = [shutil.copy(path, tmp_path / path.name) for path in paths]
    for path in list(copies):
        # the name that the set's own files call it by
        shutil.copy(path, tmp_path / f"cabd_{Path(path).name}")
    assert sums(cabinet) == cabextract_sums(Path(copies[0]))


@pytest.mark.data
def test_names_and_times_of_a_genuine_package() -> None:
    path = data_file("cab/marcinbojko__hvintegrationservices/Windows6.x-HyperVIntegrationServices-x64.cab")
    listed = run(require_tool("cabextract"), "-l", str(path)).stdout.decode().splitlines()
    rows = [
        f"{member.size:10} | {member.modified:%d.%m.%Y %H:%M:%S} | {member.name}".replace("\\", "/")
        for member in opened(path.read_bytes()).members
    ]
    assert [line for line in listed if line.count("|") == 2 and "File size" not in line] == rows


FILES = [CabFile(rf"d\f{number}", random.Random(number).randbytes(number * 7001) + bytes(9000)) for number in range(9)]


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
@pytest.mark.parametrize("reserves", [SIGNATURE_ROOM, Reserves(b"abc", 7, 9)])
def test_made_cabinets_are_what_others_read(method: int, reserves: Reserves, tmp_path: Path) -> None:
    path = tmp_path / "a.cab"
    path.write_bytes(build_cab([CabFolder(FILES[:4], method), CabFolder(FILES[4:], STORED)], reserves=reserves))
    expected = Counter(hashlib.md5(file.data, usedforsecurity=False).hexdigest() for file in FILES)
    assert cabextract_sums(path) == expected
    run(require_tool("7zz"), "x", "-y", f"-o{tmp_path}/out", str(path))
    for file in FILES:
        assert (tmp_path / "out" / file.name.replace("\\", "/")).read_bytes() == file.data
    if reserves == SIGNATURE_ROOM:
        path.write_bytes(sign_with(path.read_bytes(), b"signature"))
        assert cabextract_sums(path) == expected


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX])
def test_made_sets_are_what_others_read(method: int, tmp_path: Path) -> None:
    names = [f"p{number}.cab" for number in range(4)]
    for name, data in zip(names, build_set(CabFolder(FILES, method), 84_000, names), strict=True):
        (tmp_path / name).write_bytes(data)
    run(require_tool("7zz"), "x", "-y", f"-o{tmp_path}/out", str(tmp_path / names[0]))
    for file in FILES:
        assert (tmp_path / "out" / file.name.replace("\\", "/")).read_bytes() == file.data
