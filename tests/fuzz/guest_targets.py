"""Whole guests: what ``vhdtool inspect`` does with an image, from the container to the registry."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.fixtures import fixture_file
from tests.fuzz.fields_hive import hive_fields
from tests.fuzz.fields_ntfs import ntfs_fields
from tests.fuzz.fields_partitions import gpt_fields, mbr_fields
from tests.fuzz.fields_vhd import vhd_fields, vhd_seals
from tests.fuzz.fields_vhdx import vhdx_fields, vhdx_seals
from tests.fuzz.mutate import Base, Field
from tests.fuzz.target import Content, Located, Observation, Target
from vhdtool.image import open_image
from vhdtool.report.encode import to_json
from vhdtool.report.inspection import inspect_document


class Window(Base):
    """A hive inside an image, as far as it lies in one piece there."""

    def __init__(self, whole: Base, start: int) -> None:
        self.path = whole.path
        self.size = whole.size - start
        self._whole = whole
        self._start = start

    def read(self, offset: int, length: int) -> bytes:
        return self._whole.read(self._start + offset, length)


def build_fixtures(*names: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes(fixture_file(name).read_bytes())

    return build


def _run(name: str) -> Callable[[Path], Observation]:
    def run(folder: Path) -> Observation:
        content = Content()
        with open_image(folder / name) as image:
            document = inspect_document(image, all_services=True)
            content.add(to_json(document).replace(os.fsencode(folder), b""))
            content.note(image.problems)
            content.note(finding.code for finding in document.findings)
            content.note("volume-dirty" for volume in document.volumes if volume.state.dirty)
            for guest in document.guests:
                content.note(finding.code for finding in guest.findings)
                content.note(f"hive-{hive.state}" for hive in guest.hives)
        return content.seen()

    return run


def locate_guest(files: Mapping[str, Base]) -> Located:
    found: list[Field] = []
    seals = []
    for name, base in files.items():
        vhdx = name.endswith(".vhdx")
        found += vhdx_fields(name, base) if vhdx else vhd_fields(name, base)
        seals += vhdx_seals(name, base) if vhdx else vhd_seals(name, base)
        found += _inside(name, base)
    return found, seals


def _inside(name: str, base: Base) -> Iterator[Field]:
    """What the disk holds, found in the container by its signatures."""
    yield from ntfs_fields(name, base)
    data = base.whole()
    for match in re.finditer(rb"EFI PART", data):
        start = match.start() - 512
        if start >= 0 and start % 512 == 0:
            yield from _moved(gpt_fields(name, Window(base, start)), start)
            yield from _moved(mbr_fields(name, Window(base, start)), start)
    for match in re.finditer(rb"regf", data):
        if match.start() % 512 == 0:
            yield from _moved(hive_fields(name, Window(base, match.start())), match.start())


def _moved(fields: Iterator[Field] | list[Field], start: int) -> Iterator[Field]:
    for field in fields:
        yield replace(field, offset=field.offset + start)


def guest_targets() -> list[Target]:
    return [
        Target("guest-vhdx", 8, build_fixtures("windows-guest.vhdx"), _run("windows-guest.vhdx"), locate_guest),
        Target("guest-vhd", 5, build_fixtures("windows-guest.vhd"), _run("windows-guest.vhd"), locate_guest),
        Target("guest-4kn", 3, build_fixtures("windows-guest-4kn.vhdx"), _run("windows-guest-4kn.vhdx"), locate_guest),
        Target("guest-dirty", 8, build_fixtures("demo.vhdx"), _run("demo.vhdx"), locate_guest),
        Target(
            "guest-child",
            5,
            build_fixtures("windows-guest.vhdx", "windows-guest-child.vhdx"),
            _run("windows-guest-child.vhdx"),
            locate_guest,
        ),
    ]
