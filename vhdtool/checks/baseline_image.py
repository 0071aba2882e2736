"""The checks of the baseline that look at the image and its volumes."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.checks.model import Check, Parameter, Values, Verdict
from vhdtool.checks.node import Node

SHUT_DOWN = "Start the guest and shut it down completely: shutdown /s /f /t 0"
UNREAD = frozenset(
    {
        "evidence-unreadable",
        "guest-unreadable",
        "mount-not-found",
        "volume-encrypted",
        "volume-state-unknown",
        "volume-unreadable",
    }
)
"""Findings of inspect that leave something unknown."""


def _guest_found(document: Node, _: Values) -> Iterator[Verdict]:
    guests = document.items("guests")
    for guest in guests:
        system = guest.child("os")
        yield Verdict("pass", guest.place, f"{system.text('product') or system.text('family') or 'A guest'} is there.")
    if not guests:
        yield Verdict("fail", "guests", "No installation of Windows or Linux was found on this image.")


def _image_sound(document: Node, values: Values) -> Iterator[Verdict]:
    image = document.child("image")
    failed = False
    for problem in image.items("problems"):
        code = problem.text("code") or ""
        if code not in values["allow"]:
            failed = True
            yield Verdict("fail", problem.place, f"{problem.text('message')} [{code}]", subject=code)
    if not failed:
        yield Verdict("pass", "image.problems", "The image and its parents are sound.")


def _facts_complete(document: Node, values: Values) -> Iterator[Verdict]:
    places = [document, *document.items("guests")]
    failed = False
    for place in places:
        for finding in place.items("findings"):
            code = finding.text("code") or ""
            if code in UNREAD and code not in values["allow"]:
                failed = True
                yield Verdict("fail", finding.place, finding.text("message") or code, code, finding.text("fix"))
    if not failed:
        yield Verdict("pass", "findings", "Everything that was looked for could be read.")


def _filesystem_clean(document: Node, _: Values) -> Iterator[Verdict]:
    told = False
    for volume in document.items("volumes"):
        dirty = volume.child("state").flag("dirty")
        name = _volume_name(volume)
        if dirty is None:
            continue
        told = True
        place = f"{volume.place}.state.dirty"
        if dirty:
            yield Verdict("fail", place, f"{name} was not closed cleanly: it is marked dirty.", _subject(volume))
        else:
            yield Verdict("pass", place, f"{name} is clean.", _subject(volume))
    if not told:
        yield Verdict("not-applicable", "volumes", "No volume tells whether it is clean.")


def _not_hibernated(document: Node, _: Values) -> Iterator[Verdict]:
    told = False
    for volume in document.items("volumes"):
        hibernated = volume.child("state").flag("hibernated")
        if hibernated is None:
            continue
        told = True
        place = f"{volume.place}.state.hibernated"
        if hibernated:
            text = f"{_volume_name(volume)} belongs to a guest that is hibernated."
            yield Verdict("fail", place, text, _subject(volume))
        else:
            yield Verdict("pass", place, f"{_volume_name(volume)} is not hibernated.", _subject(volume))
    if not told:
        yield Verdict("not-applicable", "volumes", "No volume can be hibernated.")


def _volume_name(volume: Node) -> str:
    label = volume.text("label") or volume.text("name")
    return f"Volume {volume.child('index').value}" + (f" ({label})" if label else "")


def _subject(volume: Node) -> str:
    return f"volume {volume.child('index').value}"


IMAGE_CHECKS = (
    Check(
        "guest-found",
        "high",
        "An operating system was found on the image.",
        "Without one nothing else can be told: the disk is empty or for data alone, encrypted, or damaged.",
        "See what inspect says of the volumes. An encrypted one must be decrypted in the running guest first.",
        _guest_found,
    ),
    Check(
        "image-sound",
        "medium",
        "The image file and its parents have no problems.",
        "An image that was not closed, or that is damaged and was read all the same, may change when it is next opened,"
        " or not open at all.",
        "vhdtool disk verify tells more, vhdtool recover mends what an interrupted change left. An image whose log"
        " waits is closed by starting the machine and shutting it down.",
        _image_sound,
        (Parameter("allow", "texts", (), "codes of problems that are accepted"),),
    ),
    Check(
        "facts-complete",
        "medium",
        "Everything that inspect looked for could be read.",
        "What could not be read is unknown, and the other checks can't fail over it.",
        "See the hint of each finding. An encrypted volume must be decrypted in the running guest first.",
        _facts_complete,
        (Parameter("allow", "texts", (), "codes of findings that are accepted"),),
    ),
    Check(
        "filesystem-clean",
        "medium",
        "Every volume was closed cleanly.",
        "A volume marked dirty is checked at the next start, which may change or remove files; it can't be serviced.",
        f"{SHUT_DOWN}. Where it stays dirty: chkdsk C: /f in the guest.",
        _filesystem_clean,
    ),
    Check(
        "not-hibernated",
        "high",
        "No guest is hibernated, and none was shut down by fast startup.",
        "Its memory is newer than the disk: a change would be lost or do damage, and another machine can't resume it.",
        f"{SHUT_DOWN}; where fast startup brought it about: powercfg /h off",
        _not_hibernated,
    ),
)
