r"""Which control set the guest will use: ``SYSTEM\Select``."""

from __future__ import annotations

from dataclasses import dataclass

from vhdtool.errors import NotFoundError
from vhdtool.guest.values import number
from vhdtool.registry.hive import Hive, Key

SELECT_ORDER = ("Current", "Default", "LastKnownGood")
"""``Current`` is what the loader chose at the last start; the others stand in where it names nothing."""

MAX_CONTROL_SETS = 999


@dataclass(frozen=True, slots=True)
class ControlSet:
    r"""The control set in use. ``location`` starts every place read from it: ``SYSTEM\ControlSet001``."""

    number: int
    root: Key

    @property
    def location(self) -> str:
        r"""As in evidence: ``SYSTEM\ControlSet001``."""
        return rf"SYSTEM\ControlSet{self.number:03d}"

    def key(self, path: str) -> Key | None:
        """A key below the control set, or ``None``."""
        key: Key | None = self.root
        for part in path.split("\\"):
            if key is None:
                return None
            key = key.subkey(part)
        return key


def current_control_set(system: Hive) -> ControlSet | None:
    """Find the control set in use; ``None`` for a hive that has none."""
    select = system.key("Select")
    for name in SELECT_ORDER:
        chosen = number(select, name)
        if chosen and chosen <= MAX_CONTROL_SETS:
            root = system.key(f"ControlSet{chosen:03d}")
            if root is not None:
                return ControlSet(chosen, root)
    root = system.key("ControlSet001")
    return None if root is None else ControlSet(1, root)


def required_control_set(system: Hive) -> ControlSet:
    """Find the control set in use. Raises :class:`NotFoundError` ``no-control-set``."""
    found = current_control_set(system)
    if found is None:
        raise NotFoundError(
            "no-control-set",
            "the SYSTEM hive has no control set",
            path=system.path,
            hint="This is not the hive of an installed Windows: see it with vhdtool reg query IMAGE HKLM\\SYSTEM",
        )
    return found
