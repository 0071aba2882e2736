r"""Take a stage out of a guest: exactly what was put in, and what it left there when it ran.

By the record where it can be read, else by what is there: the stage's directory, the service of its name, its block in
SetupComplete.cmd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vhdtool.errors import NotFoundError
from vhdtool.guest.control_set import required_control_set
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import text
from vhdtool.registry.operation import DeleteKey, DeleteValue, RegistryOperation
from vhdtool.staging.outcome import EXCHANGE_KEY, EXCHANGE_VALUE, SERVICE_PREFIX
from vhdtool.staging.result_file import parse_kvp_value
from vhdtool.staging.runner import unchain_setup_complete
from vhdtool.staging.stage_files import MAX_SCRIPT, SETUP_COMPLETE, StageFiles
from vhdtool.staging.stage_record import FOLDER, Stage, read_stage_file, read_stages
from vhdtool.transaction.plan import Plan
from vhdtool.transaction.plan_registry import plan_registry


def find_stage(installation: WindowsInstallation, stage_id: str) -> Stage:
    """Return a stage by its id. Raises :class:`NotFoundError` ``no-such-stage``."""
    stages = read_stages(installation)
    for stage in stages:
        if stage.id == stage_id.lower():
            return stage
    known = ", ".join(stage.id for stage in stages) or "none"
    raise NotFoundError(
        "no-such-stage",
        f"nothing is staged under {stage_id}",
        path=installation.path(FOLDER),
        hint=f"Staged there: {known}.",
    )


def plan_unstage(installation: WindowsInstallation, stage_id: str) -> Plan:
    """Plan the removal of a stage.

    Raises:
        NotFoundError: ``no-such-stage``.
        DamagedError: ``stage-file-too-long``.
    """
    stage = find_stage(installation, stage_id)
    files = StageFiles(installation)
    script = take_out(installation, files, stage)
    if script is not None:
        current, rest = script
        if rest is None:
            files.remove(SETUP_COMPLETE)
        elif rest != current:
            files.put(SETUP_COMPLETE, rest, source="as it was before", new=False)
    for path in reversed(_directories(installation, stage)):
        files.remove_if_empty(path)
    plan = Plan(files=files.changes)
    for hive, operations in removals(installation, [stage]):
        plan = plan.and_then(plan_registry(installation, hive, operations))
    return plan


def take_out(installation: WindowsInstallation, files: StageFiles, stage: Stage) -> tuple[bytes, bytes | None] | None:
    """Remove a stage's directory; return SetupComplete.cmd as it is and without the stage, where it is chained."""
    files.remove(stage.folder)
    current = read_stage_file(installation, SETUP_COMPLETE, MAX_SCRIPT)
    return None if current is None else (current, without_stage(current, stage))


def without_stage(script: bytes, stage: Stage) -> bytes | None:
    """Return SetupComplete.cmd without a stage's part; None where nothing is left of it, and there was none before."""
    rest = unchain_setup_complete(script, stage.id)
    before = None if stage.record is None else stage.record.setup_complete
    if rest:
        return rest
    return b"" if before is not None and before.before_sha256 is not None else None


def removals(
    installation: WindowsInstallation, stages: Sequence[Stage]
) -> Iterator[tuple[str, tuple[RegistryOperation, ...]]]:
    """The registry operations that take stages out, by hive."""
    ids = {stage.id for stage in stages}
    keys = dict.fromkeys(key for stage in stages for key in service_keys(installation, stage))
    yield "SYSTEM", tuple(DeleteKey(key) for key in keys)
    software = installation.optional_hive("SOFTWARE")
    told = None if software is None else text(software.key(EXCHANGE_KEY), EXCHANGE_VALUE)
    if told is not None and _id_of(told) in ids:
        yield "SOFTWARE", (DeleteValue(EXCHANGE_KEY, EXCHANGE_VALUE),)


def service_keys(installation: WindowsInstallation, stage: Stage) -> tuple[str, ...]:
    """The keys of a stage's service: as recorded, and in the control set of now."""
    name = f"{SERVICE_PREFIX}{stage.id}"
    system = installation.hive("SYSTEM")
    keys = [rf"ControlSet{required_control_set(system).number:03d}\Services\{name}"]
    if stage.record is not None and stage.record.service.lower() == name:
        keys.append(stage.record.service_key)
    return tuple(dict.fromkeys(key for key in keys if key.lower().endswith(rf"\services\{name}")))


def _directories(installation: WindowsInstallation, stage: Stage) -> tuple[str, ...]:
    """The directories that go with the last stage, outermost first."""
    recorded = () if stage.record is None else stage.record.directories
    return tuple(dict.fromkeys((*(path for path in recorded if path != stage.folder), FOLDER)))


def _id_of(told: str) -> str | None:
    parsed = parse_kvp_value(told)
    return None if parsed is None else parsed.id
