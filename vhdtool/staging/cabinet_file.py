"""The servicing cabinets in a file of the host: itself, or those inside an .msu."""

from __future__ import annotations

from vhdtool.errors import UnsupportedError
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.msu import PACKAGE_MANIFEST, inner_cabinets, is_update_wrapper


def package_cabinets(outer: Cabinet) -> tuple[Cabinet, ...]:
    """Return the servicing cabinets of a file that was opened, in their order.

    An .msu may hold lists for setup beside them; those are left out.

    Raises:
        UnsupportedError: ``not-a-package``, ``package-delta``.
        VhdtoolError: as :func:`vhdtool.package.msu.inner_cabinets`.
    """
    if not is_update_wrapper(outer):
        return (outer,)
    inner = inner_cabinets(outer)
    found = tuple(one for one in inner if one.find(PACKAGE_MANIFEST) is not None)
    if not found:
        raise UnsupportedError(
            "not-a-package",
            "none of the cabinets in it is an update package",
            path=outer.path,
            expected=PACKAGE_MANIFEST,
            found=", ".join(one.path.rpartition("!")[2] for one in inner),
            hint="Name a cabinet or .msu that DISM /Add-Package would take.",
        )
    return found
