"""Random operations on NTFS through the writer, against a model, judged by foreign readers every 200 steps.

A part of them with a fresh seed here, at least 5,000 where ``VHDTOOL_PROPERTY_PROFILE=long`` is set (``scripts/long``).
``VHDTOOL_FUZZ_SEED`` sets the seed; a failure names it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.oracle.ntfs_volumes import FileVolume, judge, new_volume, ours, require_library
from vhdtool.bytesource import BytesSource
from vhdtool.errors import OutputError
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl
from vhdtool.fs.writer import FileWriter, open_writer

pytestmark = pytest.mark.oracle

LONG = os.environ.get("VHDTOOL_PROPERTY_PROFILE") == "long"
SEED = int(os.environ.get("VHDTOOL_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SEEDED = pytest.mark.parametrize("seed", [SEED], ids=["seed"])  # a failure shows its value among the arguments
JUDGED_EVERY = 200
SESSION = 50
"""Steps between one mount and the next."""

LETTERS = "abcdefghXYZ0123_-~ .äöüßÄÖÜÿéñçøžжяЖЯΩως漢字日本ﬁǅıİ😀🙂"
STEPS = {512: (150, 900), 4096: (200, 1800), 65536: (100, 900)}
"""Steps by cluster size: here, and where there is time."""


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    require_library()


@dataclass
class Model:
    """What should be on the volume."""

    source: random.Random
    tree: dict[str, bytes | None] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    count: int = 0
    largest: int = 200_000

    def folders(self) -> list[str]:
        return ["", *(name for name, content in self.tree.items() if content is None)]

    def files(self) -> list[str]:
        return [name for name, content in self.tree.items() if content is not None and name not in self.kept]

    def new_name(self) -> str:
        """One that no other name is equal to, whatever the case: a number no other has is in it."""
        self.count += 1
        text = "".join(self.source.choice(LETTERS) for _ in range(self.source.choice((0, 3, 8, 30, 120))))
        return f"{text}#{self.count}"

    def content(self) -> bytes:
        size = self.source.choice((0, 1, 100, 600, 900, 4096, 5000, 40_000, self.source.randrange(self.largest)))
        return self.source.randbytes(size)

    def another_case(self, path: str) -> str:
        return "".join(
            letter.swapcase() if letter.isascii() and self.source.random() < 0.3 else letter for letter in path
        )

    def step(self, writer: FileWriter) -> None:
        source = self.source
        action = source.choice(("make", "put", "put", "put", "replace", "replace", "resize", "remove", "remove"))
        files = self.files()
        if action == "make":
            path = f"{source.choice(self.folders())}/{self.new_name()}"
            writer.make_directory(path, security=self.descriptor(STAGED_DIRECTORY))
            self.tree[path] = None
        elif action == "put" or not files:
            path, content = f"{source.choice(self.folders())}/{self.new_name()}", self.content()
            writer.put(path, BytesSource(content), security=self.descriptor(STAGED_FILE))
            self.tree[path] = content
        elif action == "replace":
            path, content = source.choice(files), self.content()
            writer.put(self.another_case(path), BytesSource(content))
            self.tree[path] = content
        elif action == "resize":
            path = source.choice(files)
            old, size = self.tree[path] or b"", source.randrange(self.largest)
            writer.resize(self.another_case(path), size)
            self.tree[path] = old[:size].ljust(size, b"\0")
        else:
            full = {name.rpartition("/")[0] for name in self.tree}
            empty = [one for one in self.folders() if one and one not in full and one not in self.kept]
            path = source.choice([*files, *empty])
            writer.remove(self.another_case(path))
            del self.tree[path]

    def descriptor(self, text: str) -> bytes | None:
        if self.source.random() < 0.5:
            return None
        return from_sddl(text).to_bytes() if self.source.random() < 0.8 else self.odd_descriptor()

    def odd_descriptor(self) -> bytes:
        """One that the volume hardly has already: $Secure grows."""
        return from_sddl(f"O:BAG:SYD:P(A;OICI;FA;;;S-1-5-21-1-2-3-{self.source.randrange(1 << 20)})").to_bytes()


def run_steps(path: Path, model: Model, steps: int, *, sector: int = 512, mended: bool = False) -> None:
    with closing(FileVolume(path, sector)) as volume:
        for start in range(0, steps, SESSION):
            writer = open_writer(volume)
            try:
                for _ in range(min(SESSION, steps - start)):
                    model.step(writer)
                writer.finish()
            finally:
                writer.abort()
            done = start + SESSION
            if done % JUDGED_EVERY == 0 or done >= steps:
                if mended:  # not all names of this volume are the model's
                    judge(path, mended=True)
                    there = ours(path)
                    assert {name: there.get(name, b"gone") for name in model.tree} == model.tree
                else:
                    judge(path, model.tree, sector=sector)


@SEEDED
@pytest.mark.parametrize(("cluster", "sector"), [(512, 512), (4096, 512), (65536, 512), (4096, 4096)])
def test_random_operations(cluster: int, sector: int, seed: int, tmp_path: Path) -> None:
    few, many = STEPS[cluster]
    path = new_volume(tmp_path / "volume", 256 if cluster == 65536 else 48, cluster=cluster, sector=sector)
    largest = 200_000 if not LONG else 60_000  # the long run has more files on it
    run_steps(
        path, Model(random.Random(seed ^ cluster ^ sector), largest=largest), many if LONG else few, sector=sector
    )


@SEEDED
def test_random_operations_on_the_volume_that_windows_made(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "windows"
    path.write_bytes(data_file("ntfs/fox-it__dissect.ntfs/ntfs.bin.gz").read_bytes())
    session(
        path, *(lambda writer, name=name: writer.remove(name) for name in ("/Large.txt", "/Random.bin", "/File.txt"))
    )
    there = {name: content for name, content in ours(path).items() if not name.startswith("/$")}
    model = Model(random.Random(seed), dict(there), frozenset(there), largest=9000)
    run_steps(path, model, 400 if LONG else 50, mended=True)


@SEEDED
def test_a_volume_that_is_filled_up_again_and_again(seed: int, tmp_path: Path) -> None:
    """Each time it is full, the run is dropped, as a transaction drops it, and what was there before stays sound."""
    path = new_volume(tmp_path / "volume", 8)
    source = random.Random(seed)
    full = count = 0
    tree: dict[str, bytes | None] = {}
    for _ in range(40 if LONG else 6):
        before = path.read_bytes()
        model = Model(source, dict(tree), largest=700_000, count=count)
        failure = failure_of(path, model)
        count = model.count
        if failure is None:
            tree = model.tree
        else:
            path.write_bytes(before)
            full += 1
            gone = [name for name in sorted(tree, reverse=True)[::2] if tree[name] is not None]
            session(path, *(lambda writer, name=name: writer.remove(name) for name in gone))
            tree = {name: content for name, content in tree.items() if name not in gone}
        judge(path, tree)
    assert full or not LONG


def failure_of(path: Path, model: Model) -> str | None:
    """The code that 30 steps end with."""
    try:
        session(path, *[model.step] * 30)
    except OutputError as error:
        return error.code
    return None


def session(path: Path, *steps: Callable[[FileWriter], None]) -> None:
    with closing(FileVolume(path)) as volume:
        writer = open_writer(volume)
        try:
            for step in steps:
                step(writer)
            writer.finish()
        finally:
            writer.abort()
