"""Update packages around a cabinet (.msu), and packages of deltas, which hold patches instead of files.

An .msu is a cabinet with the servicing cabinet in it, one or several (that of the servicing stack and that of the
update), beside a list for the update scan and a plan for setup; or with one cabinet around these. Since Windows 11 24H2
it is a Windows image instead, which is not read.

A package of deltas carries an index, ``_manifest_.cix.xml`` or ``express.psf.cix.xml``, and patches (PA30) in files
named 0, 1, 2 … or in a .psf file; or, since Windows 10 1809, each component's patches in its folders ``f`` (forward
from the first release), ``r`` (back to it) and ``n`` (files that the first release lacks). What it installs is made in
the guest from the files there. Windows installs such a package; what is in it can't be shown or checked before, so it
is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection

from vhdtool.errors import InputError, UnsupportedError
from vhdtool.package.cabinet import Cabinet, CabinetMember

SCAN_CABINET = "WSUSSCAN.CAB"
PACKAGE_MANIFEST = "update.mum"
DELTA_INDEX = "_manifest_.cix.xml"
MAX_INNER = 16
_DELTA_ENDINGS = (DELTA_INDEX.upper(), ".PSF.CIX.XML", ".PSF")
_DELTA_FOLDERS = frozenset({"F", "R", "N"})
_PATCH_MAGICS = (b"PA30", b"PA31", b"PA19")
_CHECKSUM = 4
"""Bytes of a CRC-32 that may stand before the magic."""


def is_update_wrapper(cabinet: Cabinet) -> bool:
    """Whether a cabinet is an .msu: it has servicing cabinets in it, and no package of its own."""
    return cabinet.find(PACKAGE_MANIFEST) is None and bool(_inner_members(cabinet))


def inner_cabinets(cabinet: Cabinet) -> tuple[Cabinet, ...]:
    """Open the servicing cabinets in an .msu, in the order they are listed; a cabinet that is none has none.

    Their paths are the .msu's with ``!`` and their names. A cabinet around others gives way to these.

    Raises:
        InputError: ``msu-too-many``: more than :data:`MAX_INNER` cabinets.
        UnsupportedError: ``package-delta``: it holds its files as patches (.psf).
        VhdtoolError: as :meth:`Cabinet.open_member` and :meth:`Cabinet.open`.
    """
    if cabinet.find(PACKAGE_MANIFEST) is not None:
        return ()
    members = _inner_members(cabinet)
    if len(members) > MAX_INNER:
        raise InputError(
            "msu-too-many",
            "the update package holds too many cabinets",
            path=cabinet.path,
            expected=f"at most {MAX_INNER}",
            found=len(members),
            hint="Unpack it and name one of the cabinets in it.",
        )
    for member in cabinet.members:
        if member.key.endswith(".PSF"):
            raise delta_error(cabinet.path, member.name)
    opened = [Cabinet.open(cabinet.open_member(one), path=f"{cabinet.path}!{one.name}") for one in members]
    return tuple(inner for one in opened for inner in (_opened_inside(one) if is_update_wrapper(one) else (one,)))


def _opened_inside(cabinet: Cabinet) -> tuple[Cabinet, ...]:
    """The cabinets in one that lies in an .msu; what is in these is looked at no more."""
    refuse_delta(cabinet)
    members = _inner_members(cabinet)[:MAX_INNER]
    return tuple(Cabinet.open(cabinet.open_member(one), path=f"{cabinet.path}!{one.name}") for one in members)


def refuse_delta(cabinet: Cabinet) -> None:
    """Refuse a servicing cabinet that holds patches.

    Raises:
        UnsupportedError: ``package-delta``.
    """
    keys = {member.key: member.name for member in cabinet.members}
    found = delta_sign(keys)
    if found is not None:
        raise delta_error(cabinet.path, keys[found])


def delta_sign(keys: Collection[str]) -> str | None:
    """Return which of a cabinet's files gives a package of deltas away, by their names' keys; None where none does."""
    for key in keys:
        folder, _, rest = key.partition("\\")
        patched = rest[1:2] == "\\" and rest[:1] in _DELTA_FOLDERS and f"{folder}.MANIFEST" in keys
        if patched or key.endswith(_DELTA_ENDINGS):
            return key
    return None


def is_patch(start: bytes) -> bool:
    """Whether a file that begins so holds differences to another file (PA30 and its like)."""
    return start.startswith(_PATCH_MAGICS) or start[_CHECKSUM:].startswith(_PATCH_MAGICS)


def delta_error(path: str, found: str) -> UnsupportedError:
    """Make the error for a package of deltas; ``found`` is what gives it away."""
    return UnsupportedError(
        "package-delta",
        "the package holds patches instead of files (a delta or express package)",
        path=path,
        expected="a package with whole files",
        found=found,
        hint="Install this update in the running guest, or use a package of it without deltas.",
    )


def _inner_members(cabinet: Cabinet) -> list[CabinetMember]:
    return [
        member
        for member in cabinet.members
        if member.key.endswith(".CAB") and member.key != SCAN_CABINET and "\\" not in member.key
    ]
