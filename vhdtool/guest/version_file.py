"""The version by the files of the integration services: their version resources.

Up to Windows 8.1 every file of the integration services has the version of the whole. From Windows 10 on they are a
part of Windows and each file counts its own updates, so there the first three parts say which integration services
these are, and the fourth only how new that file is. Where the files differ, the oldest tells: the services are no
newer than their oldest part, as the guest counts its drivers.
"""

from __future__ import annotations

from vhdtool.errors import NotFoundError
from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.version import StatedVersion, VersionNumbers, version_text
from vhdtool.knowledge.integration import version_files
from vhdtool.package.pe import file_version

SOURCE = "file-version"
FIRST_BUILT_IN_MAJOR = 10


def stated_version(installation: WindowsInstallation, control_set: ControlSet | None) -> StatedVersion | None:
    """The lowest file version; ``None`` where none of the files is there."""
    found: dict[str, tuple[VersionNumbers, str]] = {}
    for row in version_files():
        if row.instead_of in found:
            continue
        try:
            file = installation.filesystem.open(installation.path(row.path))
        except NotFoundError:
            continue
        version = file_version(file, path=file.path)
        if version is not None:
            found[row.path] = (version.file, file.path)
    if not found:
        return None
    numbers, path = min(found.values(), key=lambda one: one[0])
    others = [f"{place} {version_text(other)}" for other, place in found.values() if other != numbers]
    notes = ["its fourth part counts the updates of this file alone"] if numbers[0] >= FIRST_BUILT_IN_MAJOR else []
    notes += ["oldest of the files; " + ", ".join(others)] if others else []
    return StatedVersion(
        SOURCE, numbers, path, "; ".join(notes) or None, 3 if numbers[0] >= FIRST_BUILT_IN_MAJOR else 4
    )
