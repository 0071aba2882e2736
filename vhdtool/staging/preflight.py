"""May this package be staged into this guest: named checks, each with what it found and the way out.

Each check raises a :class:`RefusedError` where the answer is no. All are asked, so that a user sees every obstacle at
once; the first one's error is what a command ends with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import RefusedError
from vhdtool.fs.fitness import refuse_unfit_volume
from vhdtool.image import Image
from vhdtool.staging.applicability import Applicability, Currency, currency, is_integration_package, judge, sha2_ready
from vhdtool.staging.guest_state import GuestState
from vhdtool.staging.staged_package import TRUST_CODES, StagedPackage
from vhdtool.transaction.apply import bare
from vhdtool.volume.partitions import volume_device

Outcome = Literal["ok", "warn", "refuse"]
Finding = tuple[Outcome, str, str | None]
"""What a check says besides a refusal: outcome, message, hint."""

FIRST_SERVICED = (6, 0)
FIRST_WITH_DISM = (6, 1)
SHUT_DOWN = "Start the guest, let it finish (restart once more), and shut it down: shutdown /s /f /t 0"
SERVICING_MARKS = ("Component Based Servicing", "pending.xml")
"""Pending work that belongs to servicing itself: DISM would fail, or undo it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. ``code`` is that of the error, for a refusal."""

    name: str
    outcome: Outcome
    message: str
    code: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedPackage:
    """A package with what was found of it in this guest."""

    staged: StagedPackage
    applies: Applicability
    currency: Currency
    sha2: Applicability | None

    @property
    def installed(self) -> bool:
        """Whether servicing itself lists it, or a newer version of it, as installed."""
        return self.currency.is_current is True and self.currency.by_servicing


@dataclass(frozen=True, slots=True)
class Preflight:
    """All checks, and the error of the first that refuses."""

    checks: tuple[Check, ...]
    error: RefusedError | None


@dataclass(frozen=True, slots=True)
class Question:
    """What the checks look at."""

    image: Image
    guest: GuestState
    packages: tuple[JudgedPackage, ...]
    allow_unsigned: bool
    path: str


def judge_packages(guest: GuestState, packages: Sequence[StagedPackage]) -> tuple[JudgedPackage, ...]:
    """Hold each package against a guest."""
    return tuple(
        JudgedPackage(
            one,
            judge(one.package, guest),
            currency(one.package, guest),
            sha2_ready(one.verification, guest),
        )
        for one in packages
    )


def run_checks(question: Question) -> Preflight:
    """Ask every check."""
    checks: list[Check] = []
    first: RefusedError | None = None
    for name, ask in CHECKS:
        try:
            for outcome, message, hint in ask(question):
                checks.append(Check(name, outcome, message, None, hint))
        except RefusedError as error:
            checks.append(Check(name, "refuse", str(error), error.code, error.hint))
            first = first or error
    others = [check.code for check in checks if check.code is not None][1:]
    if first is not None and others:
        first.message += f"; and refused too: {', '.join(others)}"
    return Preflight(tuple(checks), first)


def _windows(question: Question) -> Iterator[Finding]:
    numbers = question.guest.numbers
    product = question.guest.identity.product or "the installation"
    if numbers is None:
        raise RefusedError(
            "windows-unknown",
            "the guest does not say which Windows it is",
            path=question.path,
            hint="Is this a whole Windows? See: vhdtool inspect IMAGE",
        )
    if numbers < FIRST_SERVICED:
        raise RefusedError(
            "no-component-servicing",
            f"{product} has no component servicing: cabinets can't be staged into it",
            path=question.path,
            found=question.guest.identity.version,
            hint="Run the integration services' setup.exe /quiet /norestart in the running guest.",
        )
    generic = [one for one in question.packages if not is_integration_package(one.staged.package)]
    if generic and numbers < FIRST_WITH_DISM:
        raise RefusedError(
            "needs-dism",
            f"{product} has no DISM, and only integration services packages are staged there",
            path=question.path,
            found=generic[0].staged.title,
            hint="Install the package in the running guest with wusa.exe or pkgmgr.exe.",
        )
    yield "ok", f"{product}, {question.guest.identity.version}", None


_UNFINISHED = "Start the guest, let setup finish, and shut it down; or generalize it with sysprep."


def _install_state(question: Question) -> Iterator[Finding]:
    state = question.guest.install_state
    if state in {"specialize", "oobe", "setup"}:
        raise RefusedError(
            "setup-unfinished",
            "setup of this Windows is under way: what is staged now could run in the middle of it",
            path=question.path,
            found=f"state {state}",
            hint=_UNFINISHED,
        )
    if state == "undeployable":
        raise RefusedError(
            "image-undeployable",
            "setup of this Windows was broken off: it can't be deployed",
            path=question.path,
            found=f"state {state}",
            hint="Begin with another image: Windows itself refuses to start this one.",
        )
    if state == "unknown":
        raise RefusedError(
            "install-state-unknown",
            "nothing tells whether setup of this Windows has ended",
            path=question.path,
            hint="Start the guest, let it come up, and shut it down: shutdown /s /f /t 0",
        )
    if state == "audit":
        yield (
            "warn",
            "audit mode: what is staged runs at the next start in audit mode, before the image is resealed",
            "Stage after sysprep /generalize, if it is to run where the image is deployed.",
        )
    else:
        yield "ok", f"state {state}", None


def _volume(question: Question) -> Iterator[Finding]:
    index = question.guest.installation.volume_index
    volume = question.image.volume(index)
    refuse_unfit_volume(volume_device(question.image.disk, volume), volume, bare(question.image.filesystem(index)))
    yield "ok", f"volume {index} is NTFS, clean, and not hibernated", None


def _fast_startup(question: Question) -> Iterator[Finding]:
    if question.guest.fast_startup:
        yield "warn", "fast startup is on: when this guest is shut down from the menu, its kernel is only hibernated", (
            "Turn it off in the guest: powercfg /h off"
        )  # fmt: skip


def _hives(question: Question) -> Iterator[Finding]:
    for hive in question.guest.hives:
        if hive.state == "dirty":
            raise RefusedError(
                "hive-dirty",
                "the hive was not written completely, and its logs can't repair it",
                path=hive.path,
                hint="Start the guest and shut it down completely: shutdown /s /f /t 0",
            )
    yield "ok", ", ".join(f"{hive.path.rpartition('/')[2]} {hive.state}" for hive in question.guest.hives), None


def _pending(question: Question) -> Iterator[Finding]:
    pending = question.guest.pending
    servicing = [one for one in pending if any(mark in one.location for mark in SERVICING_MARKS)]
    if servicing:
        raise RefusedError(
            "servicing-pending",
            "servicing has work to finish: " + "; ".join(str(one) for one in servicing),
            path=question.path,
            hint=SHUT_DOWN,
        )
    if pending:
        yield "warn", "work waits for the next start: " + "; ".join(str(one) for one in pending), (
            "It is done before what is staged runs; nothing need be done."
        )  # fmt: skip
    else:
        yield "ok", "no work waits for the next start", None


def _trust(question: Question) -> Iterator[Finding]:
    for one in question.packages:
        verification = one.staged.verification
        if one.staged.trust == "tampered":
            problem = next(
                problem
                for layer in verification.layers
                for problem in layer.problems
                if problem.code not in TRUST_CODES
            )
            raise RefusedError(
                "package-tampered",
                f"the package was changed after it was signed: {problem.message}",
                path=one.staged.source,
                offset=problem.offset,
                hint="Get the package again from where it came from. See: vhdtool cab verify CAB",
            )
        if one.staged.trust == "untrusted":
            told = "; ".join(f"{layer.name}: {layer.message}" for layer in verification.layers if not layer.holds)
            if not question.allow_unsigned:
                raise RefusedError(
                    "package-untrusted",
                    f"the package's signatures do not go back to a trusted root: {told}",
                    path=one.staged.source,
                    hint="Trust its root: --trust-root FILE; or take it on your own word: --allow-unsigned",
                )
            yield "warn", f"{one.staged.title} is not trusted, and taken on your word: {told}", None
        else:
            yield "ok", f"{one.staged.title}: all layers of its signature hold", None


def _applicability(question: Question) -> Iterator[Finding]:
    for one in question.packages:
        if one.installed:
            continue
        if one.applies.answer == "no":
            raise RefusedError(
                "not-applicable",
                f"{one.staged.title} does not apply: {one.applies.message}",
                path=one.staged.source,
                hint=one.applies.fix,
            )
        if one.applies.answer == "unknown":
            yield "warn", f"{one.staged.title}: whether it applies is not known: {one.applies.message}", (
                "The guest decides; vhdtool outcome IMAGE tells what it did."
            )  # fmt: skip
        else:
            yield "ok", f"{one.staged.title} applies: {one.applies.message}", None


def _currency(question: Question) -> Iterator[Finding]:
    for one in question.packages:
        if one.currency.is_current:
            yield "warn", f"{one.staged.title} is left out, the guest is current: {one.currency.message}", None


def _sha2(question: Question) -> Iterator[Finding]:
    for one in question.packages:
        if one.sha2 is not None and one.sha2.answer == "no" and not one.currency.is_current:
            raise RefusedError(
                "sha2-missing", one.sha2.message, path=one.staged.source, hint=one.sha2.fix
            )  # fmt: skip
        if one.sha2 is not None:
            yield "warn" if one.sha2.answer == "unknown" else "ok", one.sha2.message, None


def _kvp(question: Question) -> Iterator[Finding]:
    if question.guest.kvp_disabled:
        yield "warn", (
            "Data Exchange is disabled: the host will not be told the outcome, and Windows Update never offers"
            " integration services to a guest that knows no host"
        ), "Set it to manual: vhdtool services set IMAGE vmickvpexchange=manual"  # fmt: skip


CHECKS: tuple[tuple[str, Callable[[Question], Iterator[Finding]]], ...] = (
    ("windows", _windows),
    ("install-state", _install_state),
    ("volume", _volume),
    ("fast-startup", _fast_startup),
    ("hives", _hives),
    ("pending", _pending),
    ("signature", _trust),
    ("applicability", _applicability),
    ("current", _currency),
    ("sha2", _sha2),
    ("data-exchange", _kvp),
)
"""In the order in which a refusal counts."""
