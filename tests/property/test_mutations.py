"""A part of the mutated inputs, with a fresh seed each time; ``scripts/long`` runs all of them.

The engine runs in a process of its own, so that what the test run has in memory is not counted as the parsers'.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.data_files import data_file
from tests.fuzz.coverage_map import Ranges
from tests.fuzz.mutate import Base, Field, Subject, View, mutation
from tests.fuzz.seals import base_block_seal, complement_seal, crc32c, crc32c_seal, log_entry_seal

CASES = 1500
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the engine forks its workers")
def test_mutated_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = os.environ.get("VHDTOOL_FUZZ_SEED") or str(secrets.randbits(32))
    with capsys.disabled():
        sys.stdout.write(f"\nmutated inputs: seed {seed} (VHDTOOL_FUZZ_SEED={seed} repeats it)\n")
    figures = tmp_path / "figures.json"
    command = [
        sys.executable, "-m", "tests.fuzz.runner",
        "--cases", str(CASES), "--seed", seed, "--small", "--json", str(figures),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr}"
    found = json.loads(figures.read_text())
    assert found["cases"] >= CASES
    assert found["failures"] == 0
    assert found["aimed"] >= 0.8
    assert 0.4 <= found["renewed"] <= 0.6


def subject(tmp_path: Path) -> Subject:
    path = tmp_path / "input"
    path.write_bytes(bytes(range(256)) * 64)
    base = Base(path)
    fields = [Field("input", at, 4, "head", f"f{at}", loops=(at,), others=(99,)) for at in range(0, 512, 4)]
    fields.append(Field("input", 9000, 8, "never read", "x"))
    seals = [crc32c_seal("input", 0, 4096, 4, "head")]
    return Subject({"input": base}, fields, seals, {"input": Ranges.of([(0, 4096), (8192, 100)], base.size)})


def test_a_seed_repeats_its_mutation(tmp_path: Path) -> None:
    known = subject(tmp_path)
    for number in range(50):
        assert mutation(known, Random(number)) == mutation(known, Random(number))


def test_fields_that_the_clean_run_did_not_read_are_left_out(tmp_path: Path) -> None:
    assert set(subject(tmp_path).groups) == {"head"}


def test_mutations_are_aimed_and_half_of_the_checksums_are_renewed(tmp_path: Path) -> None:
    known = subject(tmp_path)
    made = [mutation(known, Random(number)) for number in range(3000)]
    assert sum(one.aimed for one in made) / sum(one.count for one in made) > 0.85
    covered = [one for one in made if one.covered]
    assert 0.45 < sum(one.renewed for one in covered) / len(covered) < 0.55
    kinds = {kind for one in made for kind in one.kinds}
    assert {"zero", "maximum", "off-by-one", "loop", "overlap", "truncate", "bit-flip", "zero-sector"} <= kinds


def test_a_renewed_checksum_is_right(tmp_path: Path) -> None:
    known = subject(tmp_path)
    for number in range(300):
        made = mutation(known, Random(number))
        if made.renewed:
            data = bytearray(View(known.files["input"], made.patches).read(0, 4096))
            stored = int.from_bytes(data[4:8], "little")
            data[4:8] = bytes(4)
            assert stored == crc32c(bytes(data))


def test_checksums_against_published_values(tmp_path: Path) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4 gives the polynomial; this is its check value
    path = tmp_path / "footer"
    path.write_bytes(bytes(508) + bytes([1, 2, 3, 4]))
    base = Base(path)
    (patch,) = complement_seal("footer", 0, 512, 64, "footer").renew(View(base, ()))
    assert patch.data == (0xFFFFFFFF - 10).to_bytes(4, "big")
    (patch,) = base_block_seal("footer", "base block").renew(View(base, ()))
    assert patch.data == (1).to_bytes(4, "little")  # a sum of zero is stored as one


def test_log_hashes_against_a_log_that_windows_wrote(tmp_path: Path) -> None:
    log = data_file("hives/yarp/NewDirtyHive1/NewDirtyHive.LOG1")
    base = Base(log)
    size = int.from_bytes(base.read(516, 4), "little")
    patches = log_entry_seal("log", 512, size).renew(View(base, ()))
    assert [base.read(patch.offset, 8) for patch in patches] == [patch.data for patch in patches]
    assert base_block_seal("log", "base").renew(View(base, ()))[0].data == base.read(508, 4)
