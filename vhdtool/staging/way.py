"""The way in: what starts the runner in the guest, chosen by how far its installation is.

=====================================  ==============================================================================
state                                  way
=====================================  ==============================================================================
complete, audit                        a service that starts by itself
generalized                            SetupComplete.cmd, and the service as fallback
generalized, client with an OEM key    the service: Windows ignores SetupComplete.cmd there, but for Enterprise
=====================================  ==============================================================================

Source: Microsoft, "Add a custom script to Windows Setup"; the services that setup mode admits, in SYSTEM hives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vhdtool.errors import RefusedError
from vhdtool.staging.guest_state import GuestState

Via = Literal["auto", "service", "setupcomplete"]
WayName = Literal["service", "setupcomplete"]
SETUP_FOLLOWS = frozenset({"generalized"})


@dataclass(frozen=True, slots=True)
class Way:
    """What starts the runner. The service always does; ``setup_complete`` does before it. ``reason`` tells people."""

    setup_complete: bool
    reason: str

    @property
    def names(self) -> tuple[WayName, ...]:
        """The ways, first to last."""
        return ("setupcomplete", "service") if self.setup_complete else ("service",)


def choose_way(guest: GuestState, via: Via) -> Way:
    """Choose by the guest's state; ``via`` other than auto is the user's choice.

    Raises:
        RefusedError: ``setupcomplete-never-runs``: no setup follows, or Windows ignores the script.
    """
    follows = guest.install_state in SETUP_FOLLOWS
    ignored = guest.identity.client is not False and guest.oem_key is True and not _is_enterprise(guest)
    if via == "setupcomplete" and (not follows or ignored):
        raise RefusedError(
            "setupcomplete-never-runs",
            "no setup follows that would end with SetupComplete.cmd"
            if not follows
            else "Windows ignores SetupComplete.cmd on a client with an OEM key",
            path=guest.installation.root,
            expected="a generalized image",
            found=f"state {guest.install_state}",
            hint="Leave --via out: the service runs in every state that staging takes.",
        )
    if via == "service":
        return Way(False, "the service, as asked for")
    if not follows:
        return Way(False, "setup is done: SetupComplete.cmd would never run again")
    if ignored:
        return Way(False, "a client with an OEM key: Windows ignores SetupComplete.cmd")
    return Way(True, "generalized: SetupComplete.cmd runs at the end of setup, the service where that is left out")


def _is_enterprise(guest: GuestState) -> bool:
    return "enterprise" in (guest.identity.edition or "").lower()
