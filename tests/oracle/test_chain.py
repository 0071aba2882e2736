"""Chains and conversions before other readers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhdx_files import MIB
from tests.tools import require_tool, run
from vhdtool.disk.chain import open_disk
from vhdtool.disk.convert import convert_to_raw
from vhdtool.disk.second_opinion import compare_with_pyvhdi

pytestmark = pytest.mark.oracle


def by_7zip(path: Path, folder: Path) -> bytes:
    out = folder / "7z"
    run(require_tool("7zz"), "e", f"-o{out}", "-y", str(path))
    [found] = out.iterdir()
    return found.read_bytes()


@pytest.mark.parametrize(("chain", "suffix"), [(vhd_chain, "vhd"), (vhdx_chain, "vhdx")])
def test_a_chain_of_three_as_in_7zip(tmp_path, chain, suffix):
    chain(tmp_path)
    with open_disk(tmp_path / f"layer3.{suffix}") as disk:
        convert_to_raw(disk, tmp_path / "ours.raw")
    assert (tmp_path / "ours.raw").read_bytes() == by_7zip(tmp_path / f"layer3.{suffix}", tmp_path)


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_images_of_qemu_converted_back(tmp_path, kind):
    tool = require_tool("qemu-img")
    source = random.Random(2)
    content = b"".join(source.choice([bytes(MIB), source.randbytes(MIB)]) for _ in range(40))
    (tmp_path / "in.raw").write_bytes(content)
    for format_name, name in (("vhdx", "a.vhdx"), ("vpc", "a.vhd")):
        path, out = tmp_path / name, tmp_path / f"{name}.raw"
        options = f"subformat={kind}" + (",force_size=on" if format_name == "vpc" else "")
        run(tool, "convert", "-f", "raw", "-O", format_name, "-o", options, str(tmp_path / "in.raw"), str(path))
        with open_disk(path) as disk:
            converted = convert_to_raw(disk, out)
            assert compare_with_pyvhdi(disk).agrees
        assert converted.size == out.stat().st_size
        compared = run(tool, "compare", "-f", format_name, "-F", "raw", str(path), str(out), check=False)
        assert compared.returncode == 0, compared.stdout
        assert out.stat().st_blocks * 512 <= converted.written + MIB
