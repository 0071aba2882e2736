r"""The version as the guest itself published it: ``SOFTWARE\Microsoft\Virtual Machine\Auto``.

This is what ``REG QUERY`` shows in a running guest. The guest makes the key anew, in memory, at each start (icsvc.dll
6.3.9600.18692 opens it with REG_OPTION_VOLATILE), so the hive file of a machine that was shut down seldom has it.
"""

from __future__ import annotations

from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import text
from vhdtool.guest.version import StatedVersion, version_numbers

SOURCE = "auto-value"
KEY = r"Microsoft\Virtual Machine\Auto"
VALUE = "IntegrationServicesVersion"


def stated_version(installation: WindowsInstallation, control_set: ControlSet | None) -> StatedVersion | None:
    """Read the value, where the hive has it."""
    software = installation.optional_hive("SOFTWARE")
    numbers = version_numbers(text(None if software is None else software.key(KEY), VALUE))
    if numbers is None:
        return None
    return StatedVersion(
        SOURCE,
        numbers,
        rf"SOFTWARE\{KEY}\{VALUE}",
        "published by the guest when it last ran; the key is normally kept in memory only",
    )
