"""What is not edited: hives that would lose by it, and names and data that Windows would not take."""

from __future__ import annotations

from vhdtool.errors import DamagedError, RefusedError, UsageError
from vhdtool.registry.format import (
    BASE_BLOCK_SIZE,
    BIG_DATA_SEGMENT,
    BIG_DATA_SEGMENTS,
    KEY_DEPTH_LIMIT,
    KEY_NAME_LIMIT,
    NIL,
    PAGE_SIZE,
    VALUE_NAME_LIMIT,
    WRITTEN_MINOR_VERSIONS,
)
from vhdtool.registry.hive import Hive
from vhdtool.registry.names import code_units

DATA_LIMIT = BIG_DATA_SEGMENT * BIG_DATA_SEGMENTS
"""Most bytes of a value's data that its segments can be listed for."""
DAMAGED_HINT = (
    "The hive is damaged here. Let Windows repair it (it does so when it loads the hive), or use a sound copy."
)

_VERSION_HINT = "Change it on the running machine."
_UNUSABLE = frozenset({"hive-truncated", "hive-bins-size", "hive-bin"})


def refuse_unfit_value(name: str, kind: int, size: int, *, path: str) -> None:
    """Refuse a value whose name, type or data (``size`` bytes) no hive can hold.

    Raises :class:`UsageError` ``value-name``, ``value-data``.
    """
    length = len(code_units(name))
    if length * 2 > VALUE_NAME_LIMIT:
        raise UsageError(
            "value-name", "the name of a value is too long", path=path,
            expected=f"at most {VALUE_NAME_LIMIT // 2} characters", found=length,
        )  # fmt: skip
    if size > DATA_LIMIT or not 0 <= kind <= NIL:
        raise UsageError(
            "value-data", "the data of a value is too long, or its type no 32-bit number", path=path,
            expected=f"at most {DATA_LIMIT} bytes", found=f"{size} bytes of type {kind}",
        )  # fmt: skip


def refuse_unfit_key(names: list[str], *, path: str) -> None:
    """Refuse a key that Windows would not create, given the names on the way to it.

    Raises :class:`UsageError` ``key-name``.
    """
    if len(names) >= KEY_DEPTH_LIMIT:
        raise UsageError(
            "key-name", "the key would be nested too deep", path=path,
            expected=f"fewer than {KEY_DEPTH_LIMIT} levels", found=len(names),
        )  # fmt: skip
    for name in names:
        length = len(code_units(name))
        if length > KEY_NAME_LIMIT:
            raise UsageError(
                "key-name", "the name of a key is too long", path=path,
                expected=f"at most {KEY_NAME_LIMIT} characters", found=length,
            )  # fmt: skip


def refuse_unfit_hive(hive: Hive) -> None:
    """Refuse a hive that can't be edited as it lies there.

    A dirty one that its logs do not repair: what is written into it would be lost, or would bury what the logs hold.
    A version whose rules are not known well enough: 1.2, and 1.6, whose keys can be layers over those of other hives.

    Raises :class:`RefusedError` ``hive-dirty``, ``hive-version-not-written``, and :class:`DamagedError`
    ``hive-truncated``, ``hive-bins-size``, ``hive-bin``.
    """
    if hive.state == "dirty":
        raise RefusedError(
            "hive-dirty",
            "the hive was not written to its end, and its logs do not repair it: it is not edited",
            path=hive.path,
            hint="Start the machine and shut it down properly (shutdown /s /t 0), then try again.",
        )
    if hive.base.minor not in WRITTEN_MINOR_VERSIONS:
        raise RefusedError(
            "hive-version-not-written",
            "hives of this version are read, but not edited",
            path=hive.path,
            expected=" or ".join(f"1.{minor}" for minor in WRITTEN_MINOR_VERSIONS),
            found=f"1.{hive.base.minor}",
            hint=_VERSION_HINT,
        )
    for problem in hive.problems:
        if problem.code in _UNUSABLE:
            raise DamagedError(
                problem.code, problem.message, path=problem.path, offset=problem.offset, hint=DAMAGED_HINT
            )
    laid = set(hive.image.laid)
    there = hive.file.size // PAGE_SIZE
    for number in range(there, (BASE_BLOCK_SIZE + hive.base.hbins_size) // PAGE_SIZE):
        if number not in laid:
            raise DamagedError(
                "hive-truncated", "the hive is cut off, and its logs do not hold what is missing", path=hive.path,
                offset=number * PAGE_SIZE, hint=DAMAGED_HINT,
            )  # fmt: skip
