r"""What forbids to change a machine's disks: a saved state, and checkpoints.

From configuration version 6.0 on a saved machine's memory and devices lie in the ``.vmrs`` beside the ``.vmcx``, below
the key ``savedstate`` (OpenVMM, support/hvs_file); before, in ``GUID\GUID.bin`` and ``.vsv``, which the ``.xml`` names
in ``savedstate``. Those two are there too while a machine runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from vhdtool.errors import Problem, VhdtoolError
from vhdtool.host.config_file import ConfigFormat, read_config_tree
from vhdtool.host.config_tree import ConfigNode, node, number, text

Known = Literal["yes", "no", "unknown"]

SNAPSHOT_FOLDER = "Snapshots"
OLD_STATE_ENDINGS = (".vsv", ".bin")
MAX_NAMES = 20_000
"""Names that are looked at in one folder."""
MAX_CHECKPOINT_FILES = 1000
"""Configurations of checkpoints that are opened, of all machines that share the folder."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """Whether the machine was saved, or still runs. ``location``: the file or key that says so."""

    answer: Known
    location: str | None


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The machine's checkpoints: how many its configuration counts (``None``: it does not say), and their files."""

    count: int | None
    files: tuple[str, ...]

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.count or self.files)


def read_saved_state(path: str, kind: ConfigFormat, tree: ConfigNode) -> tuple[SavedState, tuple[Problem, ...]]:
    """Look for a saved state in a configuration, and beside it."""
    inside = _saved_inside(tree)
    if inside is not None:
        return SavedState("yes", f"{path}: {inside}"), ()
    beside = _beside(path)
    old = next((file for file in beside if file.lower().endswith(OLD_STATE_ENDINGS)), None)
    if old is not None:
        return SavedState("yes", old), ()
    if kind != "vmcx":
        return SavedState("no", path), ()
    runtime = next((file for file in beside if file.lower().endswith(".vmrs")), None)
    return (SavedState("unknown", None), ()) if runtime is None else _saved_in_runtime(runtime)


def _saved_in_runtime(path: str) -> tuple[SavedState, tuple[Problem, ...]]:
    try:
        inside = _saved_inside(read_config_tree(path)[1])
    except VhdtoolError as error:
        return SavedState("unknown", path), (Problem(error.code, error.message, path=path, offset=error.offset),)
    return (SavedState("no", path) if inside is None else SavedState("yes", f"{path}: {inside}")), ()


def _saved_inside(tree: ConfigNode) -> str | None:
    """The key that tells of a saved state: of ``.vmrs`` by version 6.0 and later, by version 5.0, of ``.xml``."""
    for name in ("savedstate", "savedVM"):
        if node(tree, name):
            return f"/{name}"
    for name in ("vsvlocation", "memlocation"):
        if text(tree, "configuration", "savedstate", name):
            return f"/configuration/savedstate/{name}"
    return None


def read_checkpoints(path: str, config: ConfigNode, identity: str | None) -> tuple[Checkpoints, tuple[Problem, ...]]:
    """Count the checkpoints that a configuration lists, and find their files in the folder beside the machine's.

    That folder may serve several machines: a file counts where it names this machine's id.
    """
    listed = node(config, "global_settings", "snapshots", "list")
    count = None if listed is None else number(listed, "size")
    if listed is not None:
        nodes = sum(isinstance(child, dict) for child in listed.values())
        count = nodes if count is None else max(count, nodes)
    files, problems = [], []
    for file in islice(_snapshot_files(path), MAX_CHECKPOINT_FILES):
        try:
            other = node(read_config_tree(file)[1], "configuration") or {}
        except VhdtoolError as error:
            problems.append(Problem(error.code, error.message, path=file, offset=error.offset))
            continue
        names = (text(other, "properties", "global_id"), text(other, "settings", "global", "logical_id"))
        if identity is not None and any(name and name.strip("{} ").upper() == identity for name in names):
            files.append(file)
    return Checkpoints(count, tuple(files)), tuple(problems)


def is_among_checkpoints(path: str) -> bool:
    """Tell whether a configuration lies where Hyper-V keeps those of checkpoints."""
    return Path(os.path.abspath(path)).parent.name.casefold() == SNAPSHOT_FOLDER.casefold()  # noqa: PTH100


def _snapshot_files(path: str) -> Iterator[str]:
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100  # links must stay as they are
    for above in (folder, folder.parent):
        for name in _names(above):
            if name.casefold() == SNAPSHOT_FOLDER.casefold():
                below = above / name
                yield from (str(below / file) for file in _names(below) if file.lower().endswith((".vmcx", ".xml")))


def _beside(path: str) -> list[str]:
    """The files of the machine's state: those beside its configuration and in the folder of its name."""
    folder, stem = Path(os.path.abspath(path)).parent, Path(path).stem.casefold()  # noqa: PTH100
    found = []
    for name in _names(folder):
        if Path(name).stem.casefold() == stem:
            if name.lower().endswith((".vmrs", *OLD_STATE_ENDINGS)):
                found.append(str(folder / name))
            elif name.casefold() == stem:
                found += [str(folder / name / one) for one in _names(folder / name)]
    return [file for file in found if Path(file).is_file()]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, MAX_NAMES))
    except OSError:
        return []
