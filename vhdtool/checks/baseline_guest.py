"""The checks of the baseline that look at the guests: their state, hives and what waits to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vhdtool.checks.model import SEVERITIES, Check, Examine, Parameter, Values, Verdict, is_at_least
from vhdtool.checks.node import Node

DONE = ("applied", "not-applicable")
"""States of what was staged that leave nothing to wait for."""

_Look = Callable[[Node, Values], Iterator[Verdict]]


def each_guest(look: _Look) -> Examine:
    """Make a check of one guest a check of a document: it has nothing to say where there is no guest."""

    def examine(document: Node, values: Values) -> Iterator[Verdict]:
        guests = document.items("guests")
        for guest in guests:
            yield from look(guest, values)
        if not guests:
            yield Verdict("not-applicable", "guests", "There is no guest.")

    return examine


def _no_pending_work(guest: Node, _: Values) -> Iterator[Verdict]:
    system = guest.child("os")
    works = system.items("pending")
    fix = "In the guest: dpkg --configure -a" if system.text("family") == "linux" else None
    for work in works:
        if not isinstance(work.value, str):
            raise work.misfit("a text")
        yield Verdict("fail", work.place, f"Work waits for the next start: {work.value}", work.value, fix)
    if not works:
        yield Verdict("pass", f"{system.place}.pending", "No work waits for the next start.")


def _install_state(guest: Node, values: Values) -> Iterator[Verdict]:
    system = guest.child("os")
    state = system.text("install_state") or "unknown"
    place = f"{system.place}.install_state"
    if state == "unknown":
        yield Verdict("not-applicable", place, "The state of the installation is not known.")
    elif state in values["allow"]:
        yield Verdict("pass", place, f"The installation is {state}.")
    else:
        yield Verdict("fail", place, f"The installation is {state}; accepted: {', '.join(values['allow'])}.")


def _generalized(guest: Node, _: Values) -> Iterator[Verdict]:
    system = guest.child("os")
    state = system.text("install_state") or "unknown"
    place = f"{system.place}.install_state"
    if state == "generalized":
        yield Verdict("pass", place, "The image is generalized.")
        return
    family = system.text("family")
    fix = None if family != "linux" else "In the guest: empty /etc/machine-id, remove the host's SSH keys, shut down."
    yield Verdict("fail", place, f"The image is not generalized: its state is {state}.", fix=fix)


def _fast_startup_off(guest: Node, _: Values) -> Iterator[Verdict]:
    system = guest.child("os")
    on = system.flag("fast_startup")
    place = f"{system.place}.fast_startup"
    if on is None:
        yield Verdict("not-applicable", place, "This guest has no fast startup, or it is not known.")
    elif on:
        yield Verdict("fail", place, "Fast startup is on.")
    else:
        yield Verdict("pass", place, "Fast startup is off.")


def _hives_clean(guest: Node, values: Values) -> Iterator[Verdict]:
    hives = guest.items("hives")
    failed = False
    for hive in hives:
        state, path = hive.text("state"), hive.text("path") or ""
        if state == "dirty":
            failed = True
            text = f"The hive {path} was not written completely, and its logs can't repair it."
            yield Verdict("fail", hive.place, text, path)
        elif state == "recovered" and not values["allow-recovered"]:
            failed = True
            yield Verdict("fail", hive.place, f"The hive {path} is older than its logs.", path)
    if not hives:
        yield Verdict("not-applicable", f"{guest.place}.hives", "This guest has no hives that were read.")
    elif not failed:
        recovered = sum(hive.text("state") == "recovered" for hive in hives)
        text = f"{len(hives)} hives are whole" + (f", {recovered} with their logs applied." if recovered else ".")
        yield Verdict("pass", f"{guest.place}.hives", text)


def _staged_done(guest: Node, values: Values) -> Iterator[Verdict]:
    stages = guest.items("staged")
    failed = False
    for staged in stages:
        state = staged.text("state")
        if state not in values["allow"]:
            failed = True
            name = staged.text("id") or ""
            text = f"{staged.text('package')} was staged ({name}), and is not done: its state is {state}."
            fix = f"See why: vhdtool outcome IMAGE; take it out: vhdtool unstage IMAGE {name}"
            if state in {"staged", "restart-pending"}:
                fix = "Start the guest, let it finish (restart once more), and shut it down."
            yield Verdict("fail", staged.place, text, name, fix)
    if not failed:
        text = f"{len(stages)} staged packages are done." if stages else "Nothing is staged."
        yield Verdict("pass", f"{guest.place}.staged", text)


def _no_findings(document: Node, values: Values) -> Iterator[Verdict]:
    failed = False
    for part in (document, *document.items("guests")):
        for finding in part.items("findings"):
            code, severity = finding.text("code") or "", finding.text("severity") or "high"
            if severity not in SEVERITIES:
                raise finding.child("severity").misfit(f"one of {', '.join(SEVERITIES)}")
            if code not in values["ignore"] and is_at_least(severity, values["at-least"]):
                failed = True
                text = f"{finding.text('message')} [{code}, {severity}]"
                yield Verdict("fail", finding.place, text, code, finding.text("fix"))
    if not failed:
        yield Verdict("pass", "findings", f"Inspect has no findings of {values['at-least']} severity or worse.")


STATE_CHECKS = (
    Check(
        "install-state",
        "medium",
        "The installation is finished, or generalized to be deployed.",
        "An installation in the middle of setup goes on with it at its next start, and undoes or skips what was"
        " changed meanwhile.",
        "Start the guest, let setup finish, and shut it down; or generalize it with sysprep.",
        each_guest(_install_state),
        (Parameter("allow", "texts", ("complete", "generalized"), "states that are accepted"),),
    ),
    Check(
        "generalized",
        "medium",
        "The image is generalized: every machine made of it gets an identity of its own.",
        "Machines from an image that is not generalized share their SID, name and keys.",
        "In the guest: sysprep /generalize /oobe /shutdown",
        each_guest(_generalized),
        on=False,
    ),
    Check(
        "no-pending-work",
        "medium",
        "No work waits for the next start: no servicing, renamed files or unfinished packages.",
        "The first start takes long, may restart or fail, and packages staged before then may be refused.",
        "Start the guest, let it finish (restart once more), and shut it down.",
        each_guest(_no_pending_work),
    ),
    Check(
        "staged-done",
        "medium",
        "Every update that was staged into the guest has been applied.",
        "What is staged but did not run yet, or failed, is not in effect, whatever the image's name says.",
        "Start the guest once and shut it down. vhdtool outcome IMAGE tells what became of it.",
        each_guest(_staged_done),
        (Parameter("allow", "texts", DONE, "states that are accepted"),),
    ),
    Check(
        "hives-clean",
        "medium",
        "The registry's hives are whole.",
        "A hive that was not written completely, and that its logs can't repair, may have lost settings.",
        "Start the guest and shut it down completely: shutdown /s /f /t 0",
        each_guest(_hives_clean),
        (Parameter("allow-recovered", "flag", True, "hives whose logs bring them up to date are accepted"),),
    ),
    Check(
        "fast-startup-off",
        "low",
        "Fast startup is off.",
        "With it, shutting down from the menu hibernates the kernel: the next image of this disk can't be serviced.",
        "In the guest: powercfg /h off",
        each_guest(_fast_startup_off),
        on=False,
    ),
    Check(
        "no-findings",
        "medium",
        "Inspect has no findings of a severity.",
        "A check for those who want every finding to count, also those of a later version.",
        "See the fix of each finding; vhdtool explain CODE tells more.",
        _no_findings,
        (
            Parameter("at-least", "severity", "medium", "the least severity that counts"),
            Parameter("ignore", "texts", (), "codes of findings that do not count"),
        ),
        on=False,
    ),
)
