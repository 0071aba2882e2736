r"""The version by the servicing packages: ``SOFTWARE\...\Component Based Servicing\Packages``.

Names are ``name~token~architecture~language~version``. The key has thousands of subkeys, sorted by name as all subkeys
are, so the names with one beginning are found by halves and lie together.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import number, whole_text
from vhdtool.guest.version import StatedVersion, VersionNumbers, version_numbers
from vhdtool.knowledge.integration import VersionPackage, version_packages
from vhdtool.knowledge.windows_servicing import installed_states
from vhdtool.registry.hive import Key

SOURCE = "cbs-packages"
KEY = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
MAX_LISTED = 400
"""Names that are looked at for one package: a Windows keeps a few versions of it in a few languages."""
_NAME_PARTS = 5


def stated_version(installation: WindowsInstallation, control_set: ControlSet | None) -> StatedVersion | None:
    """The highest version of an installed package; a standalone package counts before the built-in ones."""
    software = installation.optional_hive("SOFTWARE")
    packages = None if software is None else software.key(KEY)
    if packages is None:
        return None
    found = [
        (row.precision, numbers, name)
        for row, numbers, name, key in _candidates(packages)
        if number(key, "CurrentState") in installed_states()
    ]
    if not found:
        return None
    precision, numbers, name = max(found)
    note = "built-in package, its fourth part says nothing of the drivers" if precision < len(numbers) else None
    return StatedVersion(SOURCE, numbers, rf"SOFTWARE\{KEY}\{name}", note, precision)


def _candidates(packages: Key) -> Iterator[tuple[VersionPackage, VersionNumbers, str, Key]]:
    seen: set[str] = set()
    for row in version_packages():
        for key in islice(packages.subkeys(start=row.name), MAX_LISTED):
            name = whole_text(key.name)
            if not name.upper().startswith(row.name.upper()):
                break
            parts = name.split("~")
            numbers = version_numbers(parts[-1]) if len(parts) == _NAME_PARTS else None
            if numbers is not None and name not in seen:
                seen.add(name)
                yield row, numbers, name, key
