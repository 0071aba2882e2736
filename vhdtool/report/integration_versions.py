"""The version catalogue in documents: where a version of the integration services came from, and what is newer."""

from __future__ import annotations

from vhdtool.guest.version import version_numbers
from vhdtool.knowledge.integration_versions import NewestVersion, shipped_versions
from vhdtool.knowledge.windows_names import known_system
from vhdtool.report.document import NewestVersionFact, ShippedVersionFact


def shipped_facts(version: str | None) -> tuple[ShippedVersionFact, ...]:
    """Tell which hosts or updates brought a version."""
    numbers = version_numbers(version)
    return tuple(
        ShippedVersionFact(
            version=".".join(map(str, row.version)),
            hosts=tuple(known_system(name).name for name in row.hosts),
            kb=row.kb,
            note=row.note,
            exact=row.exact,
            source=row.source,
        )
        for row in (() if numbers is None else shipped_versions(numbers))
    )


def newest_fact(newest: NewestVersion | None, newer: bool | None) -> NewestVersionFact | None:
    """Tell the newest version for a guest, and whether it is newer than what the guest has."""
    if newest is None:
        return None
    return NewestVersionFact(
        version=None if newest.version is None else ".".join(map(str, newest.version)),
        newer=newer,
        by=newest.by,
        kb=newest.kb,
        note=newest.note,
        source=newest.source,
    )
