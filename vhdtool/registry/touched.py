"""Which keys an edit touched, and in what: what the gate behind it looks at again."""

from __future__ import annotations

from enum import Flag, auto


class Part(Flag):
    """The parts of a key beside its record: its values with their data, its list of subkeys."""

    VALUES = auto()
    SUBKEYS = auto()


WHOLE = Part.VALUES | Part.SUBKEYS


class Touched:
    """Keys by their cells. ``before``: parts of keys that the hive had; ``after``: parts of those that it has now."""

    def __init__(self) -> None:
        self.before: dict[int, Part] = {}
        self.after: dict[int, Part] = {}
        self._created: set[int] = set()

    def change(self, cell: int, part: Part) -> None:
        """Note a change of a key that stays."""
        self.after[cell] = self.after.get(cell, Part(0)) | part
        if cell not in self._created:
            self.before[cell] = self.before.get(cell, Part(0)) | part

    def create(self, cell: int) -> None:
        """Note a key that was not there; its cell may have been another's before."""
        self._created.add(cell)
        self.after[cell] = WHOLE

    def delete(self, cell: int) -> None:
        """Note a key that is gone."""
        self.after.pop(cell, None)
        if cell in self._created:
            self._created.discard(cell)
        else:
            self.before[cell] = WHOLE

    def is_created(self, cell: int) -> bool:
        """Tell whether the key in this cell was not there before."""
        return cell in self._created
