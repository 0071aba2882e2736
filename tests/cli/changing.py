"""Images to change: copies of the fixtures with their chains, in a folder of the test."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from tests.cli.harness import Result, run
from tests.fixtures import fixture_file
from tests.report.conformity import assert_conforms
from vhdtool.disk.chain import open_disk
from vhdtool.disk.convert import convert_to_raw

PARENTS = {"windows-guest-child.vhdx": "windows-guest.vhdx", "windows-guest-child.vhd": "windows-guest.vhd"}
CONTAINERS = ("windows-guest.vhdx", "windows-guest.vhd", *PARENTS, "windows-guest-4kn.vhdx", "raw")
"""Names for :func:`image_in`: a raw image is made of the VHDX."""


def image_in(folder: Path, name: str) -> Path:
    """Copy a fixture with its parent into ``folder``; ``raw`` is the disk of ``windows-guest.vhdx``."""
    if name == "raw":
        target = folder / "windows-guest.raw"
        with open_disk(fixture_file("windows-guest.vhdx")) as disk:
            convert_to_raw(disk, target)
        return target
    if name in PARENTS:
        image_in(folder, PARENTS[name])
    return Path(shutil.copy2(fixture_file(name), folder / name))


def digests(folder: Path) -> dict[str, str]:
    """Every file of a folder by name, with its SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def changed(*arguments: str | Path) -> Any:
    """Run a command that must end 0; return its document."""
    result = run(*map(str, arguments), "--json")
    assert result.code == 0, result.stderr
    assert_conforms(result.json, "change")
    return result.json


def refused(*arguments: str | Path) -> Result:
    """Run a command that must end 4; return its result."""
    result = run(*map(str, arguments), "--json")
    assert result.code == 4, (result.code, result.stderr)
    return result


def start_of(image: Path, service: str) -> str:
    """What ``services list`` says of a service's start."""
    result = run("services", "list", str(image), "--json")
    assert result.code == 0, result.stderr
    rows = [*result.json["services"], *result.json["drivers"]]
    return next(row["start"] for row in rows if row["name"] == service)
