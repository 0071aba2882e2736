"""Which of these packages fits a guest, and what it would change there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vhdtool.disk.device import FileDevice
from vhdtool.errors import InputError, NotFoundError, RefusedError
from vhdtool.guest.model import START_NAMES
from vhdtool.guest.values import number
from vhdtool.image import Image
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.package import Package, read_package
from vhdtool.report.document import SkippedFile
from vhdtool.report.document_cab_find import CabFindDocument, DriverDifference, FoundPackageFact, ServiceDifference
from vhdtool.report.encode import image_name
from vhdtool.staging.applicability import currency, judge
from vhdtool.staging.cabinet_file import package_cabinets
from vhdtool.staging.guest_state import GuestState

ENDINGS = (".cab", ".msu")
MAX_FILES = 10_000
"""Files with these endings that are looked at, over all folders."""
_ORDER = {"yes": 0, "unknown": 1, "no": 2}


def cab_find_document(image: Image, guest: int | None, places: Sequence[str]) -> CabFindDocument:
    """Hold the packages in folders, and those named, against a guest.

    Raises :class:`NotFoundError` ``no-such-place``, and what reading the guest raises.
    """
    installation = image.installation(guest)
    state = GuestState(installation)
    found: list[FoundPackageFact] = []
    skipped: list[SkippedFile] = []
    for path in _candidates(places):
        try:
            with closing(FileDevice(path)) as file:
                cabinets = package_cabinets(Cabinet.open(file, path=path))
                found += [found_package(read_package(cabinet), state) for cabinet in cabinets]
        except (InputError, RefusedError) as error:
            skipped.append(SkippedFile(path, error.code, error.message))
    found.sort(key=lambda one: (not one.fits, _ORDER[one.applies], one.path))
    return CabFindDocument(
        "vhdtool.cab-find/1",
        image_name(image.path),
        installation.volume_index,
        installation.root,
        tuple(places),
        tuple(found),
        tuple(skipped),
    )


def _candidates(places: Sequence[str]) -> Iterator[str]:
    left = MAX_FILES
    for place in places:
        if Path(place).is_file():
            yield place
            continue
        if not Path(place).is_dir():
            raise NotFoundError("no-such-place", "there is no such folder or file", path=place)
        for above, below, files in os.walk(place):
            below.sort()
            for name in sorted(files):
                if name.lower().endswith(ENDINGS) and left:
                    left -= 1
                    yield str(Path(above) / name)


def found_package(package: Package, state: GuestState) -> FoundPackageFact:
    """Hold one package against a guest."""
    applies, current = judge(package, state), currency(package, state)
    return FoundPackageFact(
        path=package.path,
        name=package.identity.name,
        kb=package.kb,
        version=package.identity.version_text,
        architecture=package.architecture,
        integration_version=_dotted(package.integration_version),
        fits=applies.answer == "yes" and not current.is_current,
        applies=applies.answer,
        rule=applies.rule,
        message=applies.message,
        key=applies.key,
        current=current.is_current,
        current_message=current.message,
        current_key=current.key,
        drivers=tuple(_drivers(package, state)),
        services=tuple(_services(package, state)),
    )


def _drivers(package: Package, state: GuestState) -> Iterator[DriverDifference]:
    for driver in package.drivers:
        known = state.driver(driver.inf)
        installed, brought = _dotted(None if known is None else known[0]), _dotted(driver.version)
        if installed != brought:
            yield DriverDifference(driver.inf, installed, brought)


def _services(package: Package, state: GuestState) -> Iterator[ServiceDifference]:
    windows = None if state.numbers is None else state.numbers[:2]
    for service in package.services:
        if service.releases and windows not in service.releases:
            continue
        installed = _start(number(state.control_set.key(rf"Services\{service.name}"), "Start"))
        brought = _start(service.start)
        if installed != brought:
            yield ServiceDifference(service.name, installed, brought)


def _start(value: int | None) -> str | None:
    return START_NAMES[value] if value is not None and 0 <= value < len(START_NAMES) else None


def _dotted(version: Sequence[int] | None) -> str | None:
    return None if version is None else ".".join(map(str, version))
