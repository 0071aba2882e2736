"""What may be done to a hive, as data: plans are made of these, printed, saved and carried out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetValue:
    """Give a value a type and its stored bytes; the key, and those above it, are created where they are missing.

    ``key`` is a path from the hive's root; ``name`` is ``""`` for the default value.
    """

    key: str
    name: str
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DeleteValue:
    """Delete a value; nothing to do where it is not there."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Create a key, and those above it, where they are missing."""

    key: str


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Delete a key with all below it; nothing to do where it is not there."""

    key: str


RegistryOperation = SetValue | DeleteValue | CreateKey | DeleteKey
