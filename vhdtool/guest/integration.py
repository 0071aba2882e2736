"""The integration services version: five sources, one answer, and whether they agree.

The ladder, best first. Each rung is a module with ``stated_version``:

1. ``auto-value``: what the guest published; rarely in the hive file.
2. ``enum-devices``: what the guest would compute from the devices it has met.
3. ``driver-database``: what it would compute from the drivers it has, on any Hyper-V.
4. ``file-version``: the files of the services.
5. ``cbs-packages``: the servicing packages.

The first rung that says something gives the version; all that say something are kept as evidence. They agree when no
two contradict each other in a part of the version that both state (:class:`vhdtool.guest.version.StatedVersion`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from vhdtool.guest import version_auto, version_cbs, version_driverdb, version_enum, version_file
from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.model import Agreement, IntegrationServices
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.version import StatedVersion

Source = Callable[[WindowsInstallation, ControlSet | None], StatedVersion | None]

LADDER: tuple[tuple[str, Source], ...] = (
    (version_auto.SOURCE, version_auto.stated_version),
    (version_enum.SOURCE, version_enum.stated_version),
    (version_driverdb.SOURCE, version_driverdb.stated_version),
    (version_file.SOURCE, version_file.stated_version),
    (version_cbs.SOURCE, version_cbs.stated_version),
)


def read_version(
    installation: WindowsInstallation, control_set: ControlSet | None, troubles: Troubles
) -> IntegrationServices:
    """Ask every source. One that can't be read counts as silent, and is noted in ``troubles``."""
    stated = []
    for name, source in LADDER:
        with troubles.guard(f"the version source {name}"):
            found = source(installation, control_set)
            if found is not None:
                stated.append(found)
    best = stated[0].evidence if stated else None
    return IntegrationServices(
        version=None if best is None else best.version,
        source=None if best is None else best.source,
        agreement=_agreement(stated),
        evidence=tuple(one.evidence for one in stated),
    )


def _agreement(stated: list[StatedVersion]) -> Agreement:
    if not stated:
        return "none"
    if len(stated) == 1:
        return "single"
    return "conflict" if any(one.contradicts(other) for one, other in combinations(stated, 2)) else "agree"
