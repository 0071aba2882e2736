r"""Names that Windows can use: what is made offline must be reachable by every program of the guest.

NTFS itself takes any 16-bit units but ``/`` and NUL; the rules here are those of the Windows API ("Naming Files,
Paths, and Namespaces").
"""

from __future__ import annotations

import re
from typing import Final

from vhdtool.errors import RefusedError

LONGEST_NAME: Final = 255
"""Units of UTF-16 in one name."""

_FORBIDDEN = re.compile(r'[\x00-\x1f"*/:<>?\\|]')
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE | re.DOTALL)


def refuse_name(name: str, path: str) -> None:
    """Refuse a name that Windows programs could not reach. Raises :class:`RefusedError` ``name-not-allowed``."""
    fault = _fault(name)
    if fault is not None:
        raise RefusedError(
            "name-not-allowed",
            f"Windows can't use this name: {fault}",
            path=path,
            found=repr(name),
            hint="Choose another name.",
        )


def _fault(name: str) -> str | None:
    if not name or name in (".", ".."):
        return "it is empty or made of dots"
    if len(name.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} characters"
    if _FORBIDDEN.search(name):
        return 'a control character, or one of " * / : < > ? \\ |'
    if name[-1] in ". ":
        return "it ends with a dot or a space"
    if _DEVICE.fullmatch(name):
        return "it is the name of a device"
    return None
