"""Whether a machine's disks may be changed, as far as its configuration tells.

A saved machine goes on with what its memory holds of the disk: a disk that was changed meanwhile is destroyed by it. A
checkpoint's disk is a child of the one it was made from, and breaks when that is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PureWindowsPath

from vhdtool.errors import RefusedError
from vhdtool.host.vm_disks import attached_as
from vhdtool.host.vmconfig import VmConfig

CHECKPOINT_DISKS = frozenset({".avhdx", ".avhd"})


def refuse_vm_state(config: VmConfig, image_paths: Sequence[str]) -> tuple[str, ...]:
    """Refuse to change a disk of a machine in this state; return what the user should know otherwise.

    ``image_paths``: the image, then those it stands on. Raises :class:`RefusedError` ``vm-config-unfit`` (the file is
    no machine's configuration), ``vm-saved-state``, ``vm-state-unknown``, ``vm-has-checkpoints``,
    ``vm-merge-pending``, ``vm-disk-not-attached``.
    """
    if config.format == "vmrs" or config.is_checkpoint:
        raise RefusedError(
            "vm-config-unfit",
            "this is not the configuration of a machine",
            path=config.path,
            found="its runtime state" if config.format == "vmrs" else "the configuration of a checkpoint",
            hint=r"Name the machine's own file, below Virtual Machines\: GUID.vmcx, or GUID.xml up to 2012 R2.",
        )
    _refuse_saved(config)
    _refuse_checkpoints(config)
    if image_paths and attached_as(config, image_paths[0]) is None:
        raise RefusedError(
            "vm-disk-not-attached",
            "the image is not a disk of this machine",
            path=image_paths[0],
            expected=", ".join(disk.path for disk in config.disks) or "a machine with disks",
            hint="Name the configuration of the machine that the image belongs to, or leave --vm out.",
        )
    if config.saved_state.answer == "unknown":
        return (
            f"No .vmrs lies beside {config.path}: whether the machine is saved can't be told from its configuration.",
        )
    return ()


def _refuse_saved(config: VmConfig) -> None:
    state = config.saved_state
    if state.answer == "yes":
        raise RefusedError(
            "vm-saved-state",
            "the machine is saved or runs: it would go on with what it remembers of the disk, and destroy it",
            path=config.path,
            found=state.location,
            hint="Start the machine and shut it down; or drop what it was doing, on the host: Remove-VMSavedState.",
        )
    if state.answer == "unknown" and state.location is not None:
        raise RefusedError(
            "vm-state-unknown",
            "the machine's runtime state can't be read, so it may be saved",
            path=state.location,
            found=", ".join(problem.message for problem in config.problems if problem.path == state.location) or None,
            hint="Copy the .vmrs again from the host, while the machine is off.",
        )


def _refuse_checkpoints(config: VmConfig) -> None:
    disk = next(
        (one.path for one in config.disks if PureWindowsPath(one.path).suffix.lower() in CHECKPOINT_DISKS), None
    )
    if config.checkpoints.any or disk is not None:
        raise RefusedError(
            "vm-has-checkpoints",
            "the machine has checkpoints: their disks stand on those they were made from",
            path=config.path,
            found=disk or next(iter(config.checkpoints.files), f"{config.checkpoints.count} in its list"),
            hint="Delete the checkpoints on the host (Remove-VMCheckpoint) and wait until their disks are merged.",
        )
    if config.merge_pending:
        raise RefusedError(
            "vm-merge-pending",
            "the host has yet to merge the disk of a checkpoint that was deleted",
            path=config.path,
            found="/configuration/global_settings/disk_merge_pending",
            hint="Start the machine once on the host and wait until its disks are merged.",
        )
