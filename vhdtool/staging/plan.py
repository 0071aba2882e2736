r"""What staging would do: files, registry values, the command that runs in the guest, and what it rests on.

Everything that was staged lies in one directory, ``%SystemRoot%\Setup\vhdtool\ID``; a service of the stage's name
starts it, and SetupComplete.cmd before that where setup follows. The id is made of the packages, so that the same
packages are the same stage: what is there already is recognised, and an older version that has not run is replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NoReturn

import vhdtool
from vhdtool.errors import RefusedError
from vhdtool.guest.source import WindowsInstallation
from vhdtool.image import Image
from vhdtool.registry.operation import RegistryOperation, SetValue
from vhdtool.staging.guest_state import GuestState
from vhdtool.staging.outcome import CREATED, ENDED, SERVICE_PREFIX, StagedOutcome, read_outcome
from vhdtool.staging.preflight import Check, JudgedPackage, Question, judge_packages, run_checks
from vhdtool.staging.runner import (
    CHAINED_COPY,
    ORIGINAL_COPY,
    RUNNER_NAME,
    RunnerCab,
    RunnerFacts,
    chain_setup_complete,
    install_commands,
    render_runner,
    service_command,
)
from vhdtool.staging.stage_files import MAX_SCRIPT, SCRIPTS, SETUP, SETUP_COMPLETE, StageFiles, listed
from vhdtool.staging.stage_record import (
    FOLDER,
    RECORD,
    RecordedFile,
    RecordedPackage,
    RecordedScript,
    RecordedValue,
    Stage,
    StageRecord,
    read_stage_file,
    read_stages,
    record_bytes,
)
from vhdtool.staging.staged_package import StagedPackage, guest_names
from vhdtool.staging.unstage import removals, without_stage
from vhdtool.staging.way import Via, Way, choose_way
from vhdtool.transaction.plan import Plan
from vhdtool.transaction.plan_registry import plan_registry

Reboot = Literal["never", "if-needed"]
REG_SZ, REG_EXPAND_SZ, REG_DWORD = 1, 2, 4
OWN_PROCESS, AUTO_START, IGNORE_ERRORS = 0x10, 2, 0
ID_DIGITS = 8
MAX_NAME = 40
_UNUSUAL = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class StageOptions:
    """What the user chose. ``created`` is the time that the record tells; by default now."""

    via: Via = "auto"
    reboot: Reboot = "never"
    allow_unsigned: bool = False
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage as it would be made.

    ``id`` None where no package is left to stage. ``command`` is what the service starts in the guest, ``installs``
    what installs each package then, ``notices`` what people should know before they do it, ``replaces`` the ids of
    older stages that go. ``error`` is that of the first check that refuses; the plan is empty then.
    """

    id: str | None
    plan: Plan
    way: Way | None
    checks: tuple[Check, ...]
    packages: tuple[JudgedPackage, ...]
    command: str | None
    installs: tuple[str, ...]
    replaces: tuple[str, ...]
    notices: tuple[str, ...]
    error: RefusedError | None

    def refuse(self) -> None:
        """Raise the error of the first check that refuses, where one does."""
        if self.error is not None:
            raise self.error


NOTICES = (
    "Monitors of attacks look for services whose command is cmd.exe: announce this one, or expect an alarm.",
    "Each time the service starts, Windows notes errors 7000 and 7009: a .cmd does not answer as services do.",
)


def stage_id(packages: Sequence[StagedPackage]) -> str:
    """Name a stage after its first package and the contents of all."""
    first = packages[0].package
    name = _UNUSUAL.sub("-", (first.kb or first.identity.name).lower()).strip("-")[:MAX_NAME].strip("-")
    digest = hashlib.sha256("\n".join(one.sha256 for one in packages).encode()).hexdigest()
    return f"{name or 'package'}-{digest[:ID_DIGITS]}"


def plan_stage(
    image: Image, installation: WindowsInstallation, packages: Sequence[StagedPackage], options: StageOptions
) -> StagePlan:
    """Plan a stage. Nothing is raised for a check that refuses: :meth:`StagePlan.refuse` does.

    Raises:
        RefusedError: ``setupcomplete-never-runs``, ``stage-ended``, ``stage-overlaps``, ``newer-staged``,
            ``service-name-taken``.
        VhdtoolError: what reading the guest raises.
    """
    guest = GuestState(installation)
    judged = judge_packages(guest, packages)
    question = Question(image, guest, judged, options.allow_unsigned, installation.root)
    found = run_checks(question)
    wanted = tuple(one.staged for one in judged if not one.currency.is_current)
    if found.error is not None or not wanted:
        return StagePlan(None, Plan(), None, found.checks, judged, None, (), (), (), found.error)
    way = choose_way(guest, options.via)
    own_id = stage_id(wanted)
    before = _Before(guest, wanted, own_id, read_outcome(installation))
    if before.done is not None:
        check = Check("staged", "ok", f"{own_id} is staged already, and has run: {before.done.state}")
        return StagePlan(own_id, Plan(), way, (*found.checks, check), judged, None, (), (), (), None)
    facts = _facts(guest, own_id, wanted, options)
    plan = _make(question, before, wanted, facts, way, options)
    notices = NOTICES if plan.changes else ()
    return StagePlan(
        own_id,
        plan,
        way,
        found.checks,
        judged,
        service_command(facts),
        install_commands(facts),
        before.replaced_ids,
        notices,
        None,
    )


class _Before:
    """What is staged already, and what becomes of it."""

    def __init__(
        self, guest: GuestState, packages: Sequence[StagedPackage], own_id: str, outcomes: Sequence[StagedOutcome]
    ) -> None:
        self.same: Stage | None = None
        self.done: StagedOutcome | None = None
        self.replaced: list[Stage] = []
        self.stages = read_stages(guest.installation)
        stages = {stage.id: stage for stage in self.stages}
        for outcome in outcomes:
            stage = stages[outcome.id]
            if outcome.id == own_id:
                self._same(stage, outcome, guest)
            elif outcome.state not in ENDED:
                self._other(stage, packages, guest)

    @property
    def replaced_ids(self) -> tuple[str, ...]:
        """The older stages that go."""
        return tuple(stage.id for stage in self.replaced)

    def made(self, installation: WindowsInstallation) -> tuple[str, ...]:
        """The directories that are there because some stage made them: whoever is taken out last removes them."""
        recorded = [path for one in self.stages if one.record is not None for path in one.record.directories]
        gone = {stage.folder for stage in self.replaced}
        return tuple(
            path
            for path in dict.fromkeys(recorded)
            if path not in gone
            and (not path.startswith(f"{FOLDER}/") or (self.same is not None and path == self.same.folder))
            and installation.filesystem.stat(installation.path(path)) is not None
        )

    def _same(self, stage: Stage, outcome: StagedOutcome, guest: GuestState) -> None:
        if outcome.state in {"applied", "restart-pending"}:
            self.done = outcome
        elif outcome.state in ENDED:
            _ended(stage, outcome, guest)
        else:
            self.same = stage

    def _other(self, stage: Stage, packages: Sequence[StagedPackage], guest: GuestState) -> None:
        theirs = {} if stage.record is None else {_key(one.name): one.version for one in stage.record.packages}
        ours = {_key(one.package.identity.cbs_name): one.package.identity for one in packages}
        shared = theirs.keys() & ours.keys()
        if not shared:
            return
        place = guest.installation.path(stage.folder)
        if theirs.keys() - ours.keys():
            raise RefusedError(
                "stage-overlaps",
                f"{stage.id} waits there with an older version of one of these packages, and with others",
                path=place,
                hint=f"Take it out first: vhdtool unstage IMAGE {stage.id}",
            )
        for name in shared:
            if tuple(map(int, theirs[name].split("."))) > ours[name].version:
                raise RefusedError(
                    "newer-staged",
                    f"a newer version of this package waits there: {stage.id}",
                    path=place,
                    expected=f"a version above {theirs[name]}",
                    found=ours[name].version_text,
                    hint=f"Take it out first, if the older one is meant: vhdtool unstage IMAGE {stage.id}",
                )
        self.replaced.append(stage)


def _ended(stage: Stage, outcome: StagedOutcome, guest: GuestState) -> NoReturn:
    raise RefusedError(
        "stage-ended",
        f"the same packages were staged before, and that has ended: {outcome.state}",
        path=guest.installation.path(stage.folder),
        hint=f"See why: vhdtool outcome IMAGE. To try again: vhdtool unstage IMAGE {stage.id}, then stage.",
    )


def _key(cbs_name: str) -> str:
    """A package's name without its version."""
    return cbs_name.rpartition("~")[0].lower()


def _facts(guest: GuestState, own_id: str, packages: Sequence[StagedPackage], options: StageOptions) -> RunnerFacts:
    names = guest_names(packages)
    return RunnerFacts(
        id=own_id,
        cabs=tuple(RunnerCab(name, one.sha256, one.title) for name, one in zip(names, packages, strict=True)),
        windows=guest.numbers or (0, 0, 0),
        architecture=guest.architecture or "",
        reboot=options.reboot,
        folder=rf"%SystemRoot%\Setup\vhdtool\{own_id}",
        service=f"{SERVICE_PREFIX}{own_id}",
    )


def _make(  # noqa: PLR0917  # everything that a stage is made of
    question: Question,
    before: _Before,
    packages: Sequence[StagedPackage],
    facts: RunnerFacts,
    way: Way,
    options: StageOptions,
) -> Plan:
    """Put the plan together: the directories, the files, the record of it all, and the service."""
    guest = question.guest
    installation = guest.installation
    known = None if before.same is None else before.same.record
    files = StageFiles(installation)
    for stage in before.replaced:
        files.remove(stage.folder)
    folder = f"{FOLDER}/{facts.id}"
    files.directory(SETUP, restricted=False)
    files.directory(FOLDER, restricted=True)
    files.directory(folder, restricted=True)
    for name, one in zip(guest_names(packages), packages, strict=True):
        files.put(f"{folder}/{name}", one.content, source=one.source)
    files.put(f"{folder}/{RUNNER_NAME}", render_runner(facts), source="the runner")
    script = _script(installation, files, before, facts, way)
    values = _service(guest, facts)
    removed = list(removals(installation, before.replaced)) if before.replaced else []
    operations: dict[str, list[RegistryOperation]] = {}
    for hive, some in (*removed, ("SYSTEM", values)):
        operations.setdefault(hive, []).extend(some)
    registry = Plan()
    for hive, wanted in operations.items():
        registry = registry.and_then(plan_registry(installation, hive, wanted))
    _refuse_taken(installation, facts, before, registry)
    created = options.created or datetime.now(UTC)
    record = StageRecord(
        schema="vhdtool.staged/1",
        tool=vhdtool.__version__,
        id=facts.id,
        created=created.strftime(CREATED) if known is None else known.created,
        disk=question.image.disk.layers[0].info.identity if known is None else known.disk,
        windows=guest.identity.version,
        architecture=guest.architecture,
        ways=way.names,
        reboot=facts.reboot,
        service=facts.service,
        service_key=_service_key(guest, facts.service),
        command=service_command(facts),
        packages=tuple(
            RecordedPackage(
                file=name,
                sha256=one.sha256,
                size=one.content.size,
                name=one.package.identity.cbs_name,
                kb=one.package.kb,
                version=one.package.identity.version_text,
                architecture=one.package.architecture,
                integration_version=_text(one.package.integration_version),
                source=one.source.replace("\\", "/").rpartition("/")[2],
            )
            for name, one in zip(guest_names(packages), packages, strict=True)
        ),
        files=tuple(RecordedFile(*one) for one in listed(files.changes, installation.root)),
        directories=tuple(dict.fromkeys((*before.made(installation), *files.made))),
        registry=tuple(
            RecordedValue("SYSTEM", one.key, one.name, one.type, one.data.hex(), None, None) for one in values
        ),
        setup_complete=script,
        integration_version=guest.integration.version if known is None else known.integration_version,
    )
    files.put(f"{folder}/{RECORD}", record_bytes(record), source="the record of this stage")
    return Plan(files=files.changes).and_then(registry)


def _script(
    installation: WindowsInstallation, files: StageFiles, before: _Before, facts: RunnerFacts, way: Way
) -> RecordedScript | None:
    """Chain the stage into SetupComplete.cmd, where that is its way, and take out what it replaces."""
    current = read_stage_file(installation, SETUP_COMPLETE, MAX_SCRIPT)
    original = current
    for stage in (*before.replaced, *([before.same] if before.same else [])):
        original = None if original is None else without_stage(original, stage)
    if not way.setup_complete:
        if original != current:
            _put_script(installation, files, original)
        return None
    files.directory(SCRIPTS, restricted=True)
    chained = chain_setup_complete(original, facts)
    files.put(SETUP_COMPLETE, chained, source="SetupComplete.cmd, chained", new=current is None)
    folder = f"{FOLDER}/{facts.id}"
    files.put(f"{folder}/{CHAINED_COPY}", chained, source="SetupComplete.cmd, chained")
    if original is not None:
        files.put(f"{folder}/{ORIGINAL_COPY}", original, source="SetupComplete.cmd, as it was")
    known = None if before.same is None or before.same.record is None else before.same.record.setup_complete
    if known is not None:
        return known
    return RecordedScript(
        SETUP_COMPLETE,
        None if original is None else hashlib.sha256(original).hexdigest(),
        None if original is None else len(original),
    )


def _put_script(installation: WindowsInstallation, files: StageFiles, content: bytes | None) -> None:
    if content is None:
        files.remove(SETUP_COMPLETE)
        return
    files.put(SETUP_COMPLETE, content, source="as it was before", new=False)


def _service_key(guest: GuestState, service: str) -> str:
    return rf"ControlSet{guest.control_set.number:03d}\Services\{service}"


def _service(guest: GuestState, facts: RunnerFacts) -> tuple[SetValue, ...]:
    """The values of the service that starts the runner."""
    key = _service_key(guest, facts.service)
    titles = ", ".join(cab.title for cab in facts.cabs)
    texts = (
        ("ImagePath", REG_EXPAND_SZ, service_command(facts)),
        ("ObjectName", REG_SZ, "LocalSystem"),
        ("DisplayName", REG_SZ, f"vhdtool: staged update {facts.id}"),
        ("Description", REG_SZ, f"Installs {titles} once, from {facts.folder}, and removes itself."),
    )
    numbers = (("Type", OWN_PROCESS), ("Start", AUTO_START), ("ErrorControl", IGNORE_ERRORS))
    return (
        *(SetValue(key, name, REG_DWORD, number.to_bytes(4, "little")) for name, number in numbers),
        *(SetValue(key, name, kind, f"{text}\0".encode("utf-16-le")) for name, kind, text in texts),
    )


def _refuse_taken(installation: WindowsInstallation, facts: RunnerFacts, before: _Before, registry: Plan) -> None:
    """Refuse a service of this name that is no stage's: its command is another's."""
    for change in registry.registry:
        operation = change.operation
        is_command = isinstance(operation, SetValue) and operation.name == "ImagePath"
        if is_command and change.before is not None and before.same is None:
            raise RefusedError(
                "service-name-taken",
                "the guest has a service of this name, and nothing is staged under it",
                path=installation.root,
                found=facts.service,
                hint="It is the rest of something: delete the key with vhdtool reg delete, then stage.",
            )


def _text(version: tuple[int, int, int, int] | None) -> str | None:
    return None if version is None else ".".join(map(str, version))
