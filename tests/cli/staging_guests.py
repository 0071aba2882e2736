"""Guests to stage into, and what is in them afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.cli.changing import changed, image_in
from tests.cli.harness import run
from tests.report.conformity import assert_conforms
from vhdtool.image import open_image

STATE = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State"
CURRENT = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
SETUP = r"HKLM\SYSTEM\Setup"
SERVICING = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
GENERALIZED = [("add", STATE, "/v", "ImageState", "/d", "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE")]
SCRIPT = "/Windows/Setup/Scripts/SetupComplete.cmd"
OWN_SCRIPT = b"@echo off\r\nrem the user's own\r\ncall other.cmd"

Edit = tuple[str, ...]


def guest(tmp_path: Path, *edits: Edit) -> Path:
    """The fixtures' guest in a folder of its own, with registry values changed."""
    folder = tmp_path / "images"
    folder.mkdir(exist_ok=True)
    image = image_in(folder, "windows-guest.vhdx")
    for command, *words in edits:
        if command == "rm":
            changed("rm", image, *words, "--in-place", "--no-children")
            continue
        changed("reg", command, image, *words, "--in-place", "--no-children")
    return image


def put(image: Path, path: str, content: bytes) -> None:
    """Put a file into the guest, and the directories above it."""
    source = image.parent.parent / "content"
    source.write_bytes(content)
    changed("mkdir", image, path.rpartition("/")[0], "--parents", "--in-place", "--no-children")
    changed("put", image, source, path, "--in-place", "--no-children")


def staged(*arguments: object, command: str = "stage") -> Any:
    result = run(command, *map(str, arguments), "--json")
    assert result.code == 0, result.stderr
    assert_conforms(result.json, "stage")
    return result.json


def tree(image: Path) -> dict[str, str | None]:
    """Every file of the guest's Windows volume with its SHA-256 (hives aside), and every directory."""
    found: dict[str, str | None] = {}
    with open_image(image) as opened:
        filesystem = opened.installation().filesystem
        waiting = ["/Windows"]
        while waiting:
            path = waiting.pop()
            for entry in filesystem.list(path):
                place = f"{path}/{entry.name}"
                if entry.kind == "directory":
                    found[place] = None
                    waiting.append(place)
                elif "/config/" not in place:
                    found[place] = hashlib.sha256(filesystem.open(place).read_at(0, entry.size)).hexdigest()
    return found


def keys(image: Path) -> dict[str, list[tuple[str, int, bytes]]]:
    """Every key of both hives with its values."""
    found = {}
    with open_image(image) as opened:
        for name in ("SYSTEM", "SOFTWARE"):
            for key in opened.installation().hive(name).walk():
                found[f"{name}\\{key.path}"] = sorted((one.name, one.type, one.raw) for one in key.values())
    return found


def read(image: Path, path: str) -> bytes:
    result = run("cat", str(image), path)
    assert result.code == 0, result.stderr
    return result.stdout


def cabs_of(document: Any) -> list[str]:
    """The names of the cabinets that a plan puts into the guest."""
    return [row["path"].rpartition("/")[2] for row in document["files"] if row["path"].endswith(".cab")]


IN_PLACE = ("--in-place", "--no-children")


def assert_refused(code: str, image: Path, *words: object) -> Any:
    result = run("stage", str(image), *map(str, words), "--json")
    assert result.code == 4, (result.code, result.stderr)
    assert_conforms(result.json, "stage")
    assert result.json["error"]["code"] == code
    assert result.json["error"]["hint"]
    return result.json["error"]
