r"""How a guest gets its integration services on a host, what to do, and what stands in the way: facts in, advice out.

What the pages say of guest and host is in :mod:`vhdtool.knowledge.update_matrix`, which version is the newest in
:mod:`vhdtool.knowledge.integration_versions`. Windows Update asks a guest which host it runs on, by what Data Exchange
writes below ``Virtual Machine\Guest\Parameters``: where that service never runs, nothing is offered to a guest
older than Windows 8.1 (Microsoft, virtualization blog, November 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from vhdtool.guest import version_cbs
from vhdtool.guest.model import Finding, InstallState, IntegrationServices, Service, Severity
from vhdtool.guest.version import version_numbers
from vhdtool.knowledge.integration import WindowsVersion
from vhdtool.knowledge.integration_versions import KnownCabinet, NewestVersion, known_cabinets, newest_version
from vhdtool.knowledge.sha2_support import sha2_updates
from vhdtool.knowledge.update_matrix import MatrixCell, MatrixRow, cautions, matrix_cells
from vhdtool.knowledge.windows_names import LINUX, KnownSystem

Way = Literal["windows-update", "stage", "disk", "start"]
"""What an obstacle stops: Windows Update, a package staged offline, setup in the running guest, the guest's start."""

WITHOUT_HOST_CHECK = (6, 3)
"""From Windows 8.1 and Server 2012 R2 on, integration services come with the updates of Windows itself, whatever the
host is; an older guest is offered them only on a host that Data Exchange told it of."""
FIRST_SERVICED = (6, 0)
BUILD_PARTS = 3
UNFINISHED: frozenset[InstallState] = frozenset({"specialize", "oobe", "setup", "undeployable"})
KVP_FINDING = "kvp-disabled"
CARRIED = frozenset(
    {
        "integration-version-conflict",
        "integration-version-unknown",
        "integration-services-not-installed",
        "evidence-unreadable",
    }
)
"""Findings below the severity "high" that matter here too."""
SUFFIXES = {"amd64": "x64", "x86": "x86"}
SHA1 = "sha1"
ENABLE_ON_HOST = 'Enable-VMIntegrationService -VMName NAME -Name "Key-Value Pair Exchange"'


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the image says of its guest. ``name``: the image as it stands in a command, quoted where needed.

    ``kvp`` is the service of Data Exchange. ``sha2``: whether the guest accepts packages that are signed with SHA-256
    alone; ``None`` where that is no question, or not known. ``servicing_pending``: some of the ``pending`` work is
    servicing's own, so that nothing can be staged before it is done.
    """

    name: str
    windows: WindowsVersion | None
    architecture: str | None
    integration: IntegrationServices | None
    kvp: Service | None
    sha2: bool | None
    install_state: InstallState
    pending: tuple[str, ...]
    servicing_pending: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do; ``command`` is the line to type, where there is one."""

    text: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in the way of what; ``fix`` is the way out, ``None`` where there is none."""

    code: str
    severity: Severity
    message: str
    fix: str | None
    blocks: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer. ``cells``: what the pages say, in every revision; ``used`` is the one to go by.

    ``used`` is ``None`` where no page has the pair. ``newer``: whether there are newer integration services than the
    guest has; ``None`` where that is not known.
    """

    cells: tuple[MatrixCell, ...]
    used: MatrixCell | None
    newest: NewestVersion | None
    newer: bool | None
    steps: tuple[Step, ...]
    obstacles: tuple[Obstacle, ...]

    @property
    def listed(self) -> bool:
        """Whether the pages allow this guest on this host."""
        return self.used is not None and not self.used.excluded


def advise(
    host: KnownSystem, guest: KnownSystem, image: ImageFacts | None = None, daemon_package: str | None = None
) -> Advice:
    """Tell how a guest gets its integration services on a host; ``image`` where there is one to look into.

    ``daemon_package``: what brings the daemons in a Linux guest without an image, where its distribution is known.
    """
    cells = matrix_cells(host.id, guest.id)
    used = next((cell for cell in cells if cell.used), None)
    windows = guest.ranges[0][0] if guest.ranges else None
    if image is not None and image.windows is not None:
        windows = image.windows
    newest = newest_version(windows)
    newer = None if image is None else newer_exists(image.integration, newest)
    case = _Case(host, guest, image, used, windows, newest, newer, daemon_package)
    return Advice(cells, used, newest, newer, tuple(_steps(case)), tuple(o for rule in RULES for o in rule(case)))


def newer_exists(installed: IntegrationServices | None, newest: NewestVersion | None) -> bool | None:
    """Whether there are newer integration services than those installed; ``None`` where nothing tells."""
    numbers = version_numbers(None if installed is None else installed.version)
    if installed is None or numbers is None or newest is None or newest.version is None:
        return None
    best = next(one for one in installed.evidence if one.source == installed.source)
    # the fourth part of a built-in package's version is its own (guest.version.StatedVersion.precision)
    if best.source == version_cbs.SOURCE and best.note and numbers[:BUILD_PARTS] == newest.version[:BUILD_PARTS]:
        return None
    return numbers < newest.version


@dataclass(frozen=True, slots=True)
class _Case:
    host: KnownSystem
    guest: KnownSystem
    image: ImageFacts | None
    used: MatrixCell | None
    windows: WindowsVersion | None
    newest: NewestVersion | None
    newer: bool | None
    daemon_package: str | None

    @property
    def row(self) -> MatrixRow | None:
        """The row that counts, unless the page leaves the host out."""
        return None if self.used is None or self.used.excluded else self.used.row

    @property
    def mechanism(self) -> str | None:
        return None if self.row is None else self.row.mechanism.id

    @property
    def name(self) -> str:
        """The image in commands."""
        return "IMAGE" if self.image is None else self.image.name

    @property
    def by_update(self) -> bool:
        """Whether Windows Update brings them, as a package of their own that asks for the host."""
        return (
            self.mechanism in {"windows-update", "upgrade"}
            and self.windows is not None
            and self.windows < WITHOUT_HOST_CHECK
        )

    @property
    def architectures(self) -> tuple[str, ...]:
        """Those of the cabinets that may fit."""
        known = None if self.image is None else self.image.architecture
        return tuple(one for one in self.guest.architectures if one in SUFFIXES and known in {None, one})


# what to do


def _steps(case: _Case) -> Iterator[Step]:
    if case.guest.kind == LINUX:
        yield from _linux_steps(case)
        return
    if case.newest is None:
        yield Step("No integration services are known for this version of Windows: see inspect.")
        return
    if case.newest.by == "windows-update":
        yield Step(
            f"Nothing to install: the integration services are a part of {case.guest.name}. Let the guest install its"
            " updates from Windows Update; the standalone packages do not apply to it."
        )
        return
    if case.newer is False:
        yield Step("Nothing to install: the guest has the newest integration services that there are for it.")
        return
    yield from _online(case)
    if case.newest.by == "setup":
        yield from _setup(case)
    else:
        yield from _offline(case, case.newest)
    if case.image is not None:
        yield Step(
            "When the guest has run, and is shut down, look what it has.", f"vhdtool version {case.name}"
        )  # fmt: skip


def _linux_steps(case: _Case) -> Iterator[Step]:
    yield Step(
        "Nothing of Microsoft's to install: drivers and time, shutdown and heartbeat are in the distribution's kernel."
        " Let the package manager update the kernel."
    )
    if case.image is None:
        named = case.daemon_package or (
            "the distribution's package with them (hyperv-daemons on Debian, Fedora and their kin,"
            " linux-cloud-tools-virtual on Ubuntu, hyper-v on SUSE)"
        )
        yield Step(f"Data Exchange, backup and file copy take daemons: in the guest install {named}.")
        return
    fixes = [one.fix for one in case.image.findings if _is_daemon(one) and one.fix is not None]
    if not fixes:
        yield Step("The daemons for Data Exchange, backup and file copy are there and start: leave them as they are.")
    for fix in dict.fromkeys(fixes):
        yield Step(f"For the daemons of Data Exchange, backup and file copy. {fix}")


def _is_daemon(finding: Finding) -> bool:
    return finding.code.startswith("daemon-") or finding.code == KVP_FINDING


def _online(case: _Case) -> Iterator[Step]:
    if case.mechanism == "integration-services-disk":
        yield Step(
            "In the running guest: in Hyper-V Manager connect to the machine, and in the menu Action choose Insert"
            " Integration Services Setup Disk; start setup from it, if it does not start by itself."
            " That can't be done by a script."
        )
    elif case.by_update:
        yield Step(
            "Have Data Exchange on, in the guest and on the host: without it Windows Update does not know the host,"
            " and offers nothing.",
            ENABLE_ON_HOST,
        )
        yield Step("Let the guest install its important updates from Windows Update, and restart it.")
    elif case.mechanism in {"windows-update", "built-in", "upgrade"}:
        yield Step(
            f"They are built into {case.guest.name}: let the guest install its updates, of which the monthly rollups"
            " bring newer ones."
        )


def _setup(case: _Case) -> Iterator[Step]:
    yield Step(
        "Take setup.exe of the integration services from vmguest.iso of Windows Server 2012 R2, the last that has one,"
        " and run it in the running guest. Nothing can be staged: this Windows has no component servicing.",
        "setup.exe /quiet /norestart",
    )


def _offline(case: _Case, newest: NewestVersion) -> Iterator[Step]:
    only_sha1 = case.image is not None and case.image.sha2 is False
    cabinets = [one for one in _cabinets(case, newest) if not only_sha1 or SHA1 in one.signed]
    best = max((one.version for one in cabinets), default=None)
    fitting = [one for one in cabinets if one.version == best]
    begin = (
        "Offline, with the machine stopped: " if case.mechanism is None else "Or offline, with the machine stopped: "
    )
    for cabinet in fitting:
        version = ".".join(map(str, cabinet.version))
        bits = {"x86": "for a 32-bit guest ", "amd64": "for a 64-bit guest "}[cabinet.architecture]
        why = "; signed with SHA-1 too, which this guest needs" if only_sha1 else ""
        yield Step(
            f"{begin}{bits if len(fitting) > 1 else ''}take {cabinet.file} {version} ({cabinet.kb}{why}), which is"
            f" {cabinet.where}; its SHA-256 is {cabinet.sha256}. Look whether it is whole and fits.",
            f"vhdtool cab find {case.name} {cabinet.file}",
        )
        yield Step(
            "Stage it: the guest installs it at its next start. Without --child or --in-place the plan is shown, and"
            " nothing is written.",
            f"vhdtool stage {case.name} --cab {cabinet.file} --child updated.vhdx",
        )
        begin = "Or "


def _cabinets(case: _Case, newest: NewestVersion) -> tuple[KnownCabinet, ...]:
    return tuple(
        one for one in known_cabinets() if one.package == newest.package and one.architecture in case.architectures
    )


# what stands in the way


def _not_listed(case: _Case) -> Iterator[Obstacle]:
    if case.used is None:
        yield Obstacle(
            "guest-not-listed",
            "medium",
            f"Microsoft's pages do not have {case.guest.name} on {case.host.name}: nobody supports this pair.",
            "Move the machine to a host that they have it on (vhdtool advise --matrix), or go on unsupported.",
            (),
        )
    elif case.used.excluded:
        yield Obstacle(
            "host-not-listed",
            "medium",
            f"The page has {case.guest.name} only on other hosts than {case.host.name}.",
            f"Move the machine to a newer host: vhdtool advise --matrix names them for {case.guest.name}.",
            (),
        )


def _cautions(case: _Case) -> Iterator[Obstacle]:
    for caution in cautions(case.host.id, case.guest.id, case.mechanism or ""):
        yield Obstacle(
            "windows-update-doubtful",
            "medium",
            f"{caution.text} ({caution.source})",
            "Stage the package instead, as the steps say."
            if case.newest is not None and case.newest.by == "cab"
            else None,
            ("windows-update",),
        )


def _kvp(case: _Case) -> Iterator[Obstacle]:
    kvp = None if case.image is None else case.image.kvp
    if kvp is None or not case.by_update:
        return
    nothing = "so Guest\\Parameters never comes to be, and Windows Update will never offer integration services."
    if kvp.effective_start == "disabled":
        wanted = kvp.expected_start or "manual"
        yield Obstacle(
            "kvp-disabled",
            "high",
            f"Data Exchange (vmickvpexchange) is disabled: the guest never learns which host it runs on, {nothing}",
            f"vhdtool services set {case.name} vmickvpexchange={wanted} --in-place, or stage the package.",
            ("windows-update",),
        )
    elif kvp.status in {"missing", "not-offered"}:
        yield Obstacle(
            "kvp-missing",
            "high",
            f"The guest has no Data Exchange (vmickvpexchange): it never learns which host it runs on, {nothing}",
            "Stage the package, as the steps say: it brings the service.",
            ("windows-update",),
        )
    elif kvp.status == "no-trigger":
        yield Obstacle(
            "kvp-no-trigger",
            "medium",
            f"Data Exchange (vmickvpexchange) has no trigger, and does not start: {nothing}",
            f"vhdtool services set {case.name} vmickvpexchange=manual --restore-triggers --in-place",
            ("windows-update",),
        )


def _old(case: _Case) -> Iterator[Obstacle]:
    if case.newer and case.image is not None and case.image.integration is not None and case.newest is not None:
        yield Obstacle(
            "integration-services-old",
            "medium",
            f"The guest has integration services {case.image.integration.version}, the newest for it are"
            f" {'.'.join(map(str, case.newest.version or ()))}.",
            "Update them as the steps say.",
            (),
        )


def _service_pack(case: _Case) -> Iterator[Obstacle]:
    if case.row is None or case.row.service_pack is None or case.image is None or case.image.windows is None:
        return
    needed = case.guest.service_packs.get(case.row.service_pack)
    if needed is not None and case.image.windows < needed:
        yield Obstacle(
            "service-pack-missing",
            "high",
            f"The page is for {case.row.name}, and the guest is {'.'.join(map(str, case.image.windows))}: without"
            f" {case.row.service_pack}.",
            f"Install {case.row.service_pack} in the running guest first.",
            ("windows-update", "disk"),
        )


def _sha2(case: _Case) -> Iterator[Obstacle]:
    if case.image is None or case.image.sha2 is not False or case.newer is False or case.windows is None:
        return
    names = " or ".join(one.kb for one in sha2_updates() if case.windows[:2] in one.windows)
    yield Obstacle(
        "sha2-missing",
        "high",
        f"The newest package is signed with SHA-256 alone, and the guest has no update that accepts it ({names}):"
        " Windows Update and DISM will refuse it.",
        f"Install {names} in the running guest first, or stage the older package that the steps name.",
        ("windows-update", "stage"),
    )


def _setup_state(case: _Case) -> Iterator[Obstacle]:
    if case.image is not None and case.image.install_state in UNFINISHED:
        yield Obstacle(
            "image-not-complete",
            "high",
            f"The installation is not complete (state {case.image.install_state}): nothing can be staged.",
            "Start the guest, let setup finish, and shut it down; or generalize it with sysprep.",
            ("stage",),
        )


def _pending(case: _Case) -> Iterator[Obstacle]:
    if case.image is not None and case.image.pending:
        yield Obstacle(
            "servicing-pending",
            "medium" if case.image.servicing_pending else "low",
            "Work waits for the next start: " + "; ".join(case.image.pending) + ".",
            "Start the guest, let it finish (restart once more), and shut it down: shutdown /s /f /t 0",
            ("windows-update", "stage") if case.image.servicing_pending else (),
        )


def _found(case: _Case) -> Iterator[Obstacle]:
    """Findings that stand in the way of anything: those of severity "high", and some that blur the answer."""
    for finding in () if case.image is None else case.image.findings:
        linux = case.guest.kind == LINUX
        if finding.code == KVP_FINDING and not linux:
            continue  # _kvp says it, with what follows from it here
        if finding.severity == "high" or finding.code in CARRIED or (linux and finding.severity == "medium"):
            blocks: tuple[Way, ...] = ()
            if finding.severity == "high" and not linux:
                blocks = ("start",) if finding.code.startswith("boot-driver") else ("stage",)
            yield Obstacle(finding.code, finding.severity, finding.message, finding.fix, blocks)


RULES: tuple[Callable[[_Case], Iterator[Obstacle]], ...] = (
    _not_listed,
    _service_pack,
    _kvp,
    _sha2,
    _setup_state,
    _pending,
    _found,
    _old,
    _cautions,
)
"""Each looks at one thing; in the order in which obstacles are told."""
