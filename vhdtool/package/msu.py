"""Update packages around a cabinet (.msu), and packages of deltas, which hold patches instead of files.

An .msu is a cabinet with the servicing cabinet in it, one or several, beside a list for the update scan and a plan for
setup. Since Windows 11 24H2 it is a Windows image instead, which is not read.

A package of deltas carries an index, ``_manifest_.cix.xml`` or ``express.psf.cix.xml``, and patches (PA30) in files
named 0, 1, 2 … or in a .psf file: what it installs is made in the guest from the files there. Windows installs such a
package; what is in it can't be shown or checked before, so it is refused by name.
"""

from __future__ import annotations

from vhdtool.errors import InputError, UnsupportedError
from vhdtool.package.cabinet import Cabinet, CabinetMember

SCAN_CABINET = "WSUSSCAN.CAB"
PACKAGE_MANIFEST = "update.mum"
DELTA_INDEX = "_manifest_.cix.xml"
MAX_INNER = 16


def is_update_wrapper(cabinet: Cabinet) -> bool:
    """Whether a cabinet is an .msu: it has servicing cabinets in it, and no package of its own."""
    return cabinet.find(PACKAGE_MANIFEST) is None and bool(_inner_members(cabinet))


def inner_cabinets(cabinet: Cabinet) -> tuple[Cabinet, ...]:
    """Open the servicing cabinets in an .msu, in the order they are listed; a cabinet that is none has none.

    Their paths are the .msu's with ``!`` and their names.

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
    return tuple(Cabinet.open(cabinet.open_member(one), path=f"{cabinet.path}!{one.name}") for one in members)


def refuse_delta(cabinet: Cabinet) -> None:
    """Refuse a servicing cabinet that holds patches.

    Raises:
        UnsupportedError: ``package-delta``.
    """
    for member in cabinet.members:
        if member.key.endswith((DELTA_INDEX.upper(), ".PSF.CIX.XML", ".PSF")):
            raise delta_error(cabinet.path, member.name)


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
