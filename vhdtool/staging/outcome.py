r"""What became of what was staged: read from the guest after it has run, or has not.

The runner's result file says it best; the value that it sets for the host says the outcome where the file is gone.
Without either, the time of the guest's last shutdown tells a stage that waits from one that the guest passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from construct import Int64ul, Struct

from vhdtool.errors import VhdtoolError
from vhdtool.guest.control_set import ControlSet, current_control_set
from vhdtool.guest.integration import read_version
from vhdtool.guest.model import Staged, StagedState
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import binary, number, text
from vhdtool.guest.version import version_numbers
from vhdtool.guest.version_cbs import KEY as PACKAGES_KEY
from vhdtool.knowledge.windows_servicing import installed_states
from vhdtool.layout import packed
from vhdtool.staging.guest_log import error_lines, last_lines
from vhdtool.staging.result_file import (
    LOG_NAME,
    MAX_RESULT,
    RESULT_NAME,
    CabResult,
    StageResult,
    parse_kvp_value,
    parse_result,
)
from vhdtool.staging.stage_record import RECORD, RecordedPackage, Stage, read_stage_file, read_stages

ENDED: frozenset[StagedState] = frozenset({"applied", "restart-pending", "not-applicable", "failed", "abandoned"})
"""States after which nothing more will happen by itself."""
SERVICE_PREFIX = "vhdtool-"
EXCHANGE_KEY = r"Microsoft\Virtual Machine\Guest"
EXCHANGE_VALUE = "vhdtool.stage"
"""Where the runner tells the host of the outcome (a guest exchange item of Data Exchange)."""
STARTED, DONE = "try-1-1", "done"
"""Directories that the runner makes: before its first attempt, and at its end."""
SHUTDOWN_KEY = r"Control\Windows"
SHUTDOWN_VALUE = "ShutdownTime"
_FILETIME = packed(Struct("time" / Int64ul))
CREATED = "%Y-%m-%dT%H:%M:%SZ"
"""How a record writes its time."""
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CabOutcome:
    """One package of a stage. ``code`` is what DISM ended with, None where it never did; ``meaning`` says it."""

    file: str
    title: str
    state: str
    code: int | None
    meaning: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class StagedOutcome:
    """What became of one stage.

    ``reason`` says why the state is what it is. ``attempts`` that were begun; ``started`` and ``ended`` as the guest's
    clock had it. ``waits``: the service is there, and will start the runner again. The versions are those of the
    integration services: before staging, as the packages bring it, and now. ``log`` are the runner's last lines.
    """

    id: str
    state: StagedState
    reason: str
    packages: tuple[RecordedPackage, ...]
    ways: tuple[str, ...]
    staged_at: str | None
    attempts: int
    started: str | None
    ended: str | None
    waits: bool
    cabs: tuple[CabOutcome, ...]
    version_before: str | None
    version_staged: str | None
    version_now: str | None
    log: tuple[str, ...]
    evidence: tuple[str, ...]

    @property
    def title(self) -> str:
        """The packages' names, for people."""
        return ", ".join(f"{one.kb or one.name.split('~')[0]} {one.version}" for one in self.packages) or self.id

    @property
    def staged(self) -> Staged:
        """As it stands in the facts of a guest."""
        return Staged(self.id, self.title, self.state)


def read_outcome(installation: WindowsInstallation) -> tuple[StagedOutcome, ...]:
    """Tell what became of everything that was staged, by id. Raises what opening the SYSTEM hive raises."""
    stages = read_stages(installation)
    if not stages:
        return ()
    control_set = current_control_set(installation.hive("SYSTEM"))
    now = read_version(installation, control_set, Troubles()).version
    told = _told(installation)
    return tuple(_Reading(installation, control_set, stage, told, now).outcome() for stage in stages)


def _told(installation: WindowsInstallation) -> str | None:
    """What the runner told the host."""
    with Troubles().guard("the SOFTWARE hive"):
        software = installation.optional_hive("SOFTWARE")
        return None if software is None else text(software.key(EXCHANGE_KEY), EXCHANGE_VALUE)
    return None


class _Reading:
    """One stage, and what the guest says of it."""

    def __init__(
        self,
        installation: WindowsInstallation,
        control_set: ControlSet | None,
        stage: Stage,
        told: str | None,
        now: str | None,
    ) -> None:
        self._installation = installation
        self._control_set = control_set
        self._stage = stage
        self._told = told
        self._now = now
        self._result_path = f"{stage.folder}/{RESULT_NAME}"
        service = None if control_set is None else control_set.key(rf"Services\{SERVICE_PREFIX}{stage.id}")
        self._waits = service is not None

    def outcome(self) -> StagedOutcome:
        record = self._stage.record
        result: StageResult | None = None
        error = self._stage.error
        try:
            result = self._result()
        except VhdtoolError as failure:
            error = error or failure
        state, reason = self._state(result, error)
        packages = () if record is None else record.packages
        staged = self._staged_version(packages)
        return StagedOutcome(
            id=self._stage.id,
            state=state,
            reason=reason,
            packages=packages,
            ways=() if record is None else record.ways,
            staged_at=None if record is None else record.created,
            attempts=0 if result is None else result.attempts,
            started=self._time(STARTED),
            ended=self._time(DONE),
            waits=self._waits,
            cabs=() if result is None else tuple(_cab(one, packages) for one in result.cabs),
            version_before=None if record is None else record.integration_version,
            version_staged=staged,
            version_now=self._now,
            log=() if result is None else self._log(result),
            evidence=tuple(self._evidence(result)),
        )

    def _time(self, name: str) -> str | None:
        """When the runner made a directory, by the guest's clock."""
        there = self._installation.filesystem.stat(self._installation.path(f"{self._stage.folder}/{name}"))
        return None if there is None or there.modified is None else there.modified.strftime(CREATED)

    def _log(self, result: StageResult) -> tuple[str, ...]:
        lines = last_lines(self._installation, f"{self._stage.folder}/{LOG_NAME}")
        for place, cab in enumerate(result.cabs, 1):
            if cab.state in {"failed", "abandoned"}:
                lines += error_lines(self._installation, f"{self._stage.folder}/dism-{place}.log")
        return lines

    def _result(self) -> StageResult | None:
        data = read_stage_file(self._installation, self._result_path, MAX_RESULT)
        if data is None:
            return None
        return parse_result(data, path=self._installation.path(self._result_path))

    def _state(self, result: StageResult | None, error: VhdtoolError | None) -> tuple[StagedState, str]:
        if result is not None and result.id == self._stage.id:
            if result.state == "staged" and result.attempts:
                return self._unended(result)
            return self._settled(result.state)
        told = None if self._told is None else parse_kvp_value(self._told)
        if told is not None and told.id == self._stage.id:
            return self._settled(told.state)
        if error is not None:
            return "unknown", f"what it left can't be read: {error} [{error.code}]"
        if result is not None:
            return "unknown", f"its result is that of another stage: {result.id}"
        return self._never()

    def _unended(self, result: StageResult) -> tuple[StagedState, str]:
        tried = f"attempted {result.attempts} time{'s' if result.attempts > 1 else ''}, and not ended"
        if self._waits:
            return "staged", f"{tried}: it goes on at the guest's next start"
        return "abandoned", f"{tried}; its service is gone, so nothing goes on"

    def _settled(self, state: StagedState) -> tuple[StagedState, str]:
        """What the runner said, held against the versions that are found now."""
        record = self._stage.record
        staged = version_numbers(self._staged_version(() if record is None else record.packages))
        now = version_numbers(self._now)
        if state == "restart-pending" and self._are_installed():
            return "applied", "the restart has been: servicing has the packages among those installed"
        if staged is None or now is None:
            return state, _REASONS[state]
        if state == "restart-pending" and now >= staged:
            return "applied", "the restart has been: the versions are those of the package"
        if state == "applied" and now < staged:
            return state, "DISM ended well, but the versions found are still older: a restart may be missing"
        return state, _REASONS[state]

    def _are_installed(self) -> bool:
        """Whether servicing has every package of the stage among the installed ones."""
        record = self._stage.record
        with Troubles().guard("the servicing packages"):
            software = self._installation.optional_hive("SOFTWARE")
            packages = None if software is None else software.key(PACKAGES_KEY)
            if packages is None or record is None or not record.packages:
                return False
            return all(
                number(packages.subkey(one.name), "CurrentState") in installed_states() for one in record.packages
            )
        return False

    def _never(self) -> tuple[StagedState, str]:
        if not self._waits:
            return "never-ran", "its service is gone, and it left no result"
        stopped, created = _shutdown(self._control_set), self._created()
        if stopped is not None and created is not None and stopped > created:
            return "never-ran", f"the guest has run since, until {stopped:%Y-%m-%d %H:%M} UTC, and nothing was begun"
        return "staged", "it waits for the guest's next start"

    def _created(self) -> datetime | None:
        record = self._stage.record
        if record is None:
            return None
        try:
            return datetime.strptime(record.created, CREATED).replace(tzinfo=UTC)
        except ValueError:
            return None

    def _staged_version(self, packages: Sequence[RecordedPackage]) -> str | None:
        """The highest version of the integration services that the packages bring."""
        known = [(version_numbers(one.integration_version), one.integration_version) for one in packages]
        return max((pair for pair in known if pair[0] is not None), default=(None, None))[1]

    def _evidence(self, result: StageResult | None) -> Sequence[str]:
        found = [self._installation.path(f"{self._stage.folder}/{RECORD}")]
        if result is not None:
            found.append(self._installation.path(self._result_path))
        if self._told is not None and self._stage.id in self._told:
            found.append(rf"SOFTWARE\{EXCHANGE_KEY}\{EXCHANGE_VALUE}")
        if self._waits and self._control_set is not None:
            found.append(rf"{self._control_set.location}\Services\{SERVICE_PREFIX}{self._stage.id}")
        return found


_REASONS: dict[StagedState, str] = {
    "staged": "it waits for the guest's next start",
    "applied": "DISM installed it",
    "restart-pending": "DISM installed it, and the guest must be restarted",
    "not-applicable": "DISM says that it is not for this guest, or that the guest has a newer one",
    "failed": "DISM failed, in a way that trying again does not mend",
    "abandoned": "it was tried three times",
    "never-ran": "nothing was begun",
    "unknown": "the runner's word on it is not known",
}


def _cab(result: CabResult, packages: Sequence[RecordedPackage]) -> CabOutcome:
    known = next((one for one in packages if one.file.lower() == result.name.lower()), None)
    title = result.name if known is None else f"{known.kb or known.name.split('~')[0]} {known.version}"
    return CabOutcome(result.name, title, result.state, result.code, result.meaning, result.attempts)


def _shutdown(control_set: ControlSet | None) -> datetime | None:
    """When the guest was last shut down."""
    stored = binary(None if control_set is None else control_set.key(SHUTDOWN_KEY), SHUTDOWN_VALUE) or b""
    if len(stored) != _FILETIME.size:
        return None
    try:
        return _EPOCH + timedelta(microseconds=_FILETIME.unpack(stored)[0] // 10)
    except OverflowError:
        return None
