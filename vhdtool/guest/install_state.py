r"""How far the installation is: generalized, in setup, complete.

``ImageState`` says it since Vista; the values of ``SYSTEM\Setup`` say whether the next start runs a setup phase,
and are all there is before. A complete image about to run a setup phase is not complete.
Source: Microsoft, "Windows Setup States"; the Setup keys of SYSTEM hives of Windows XP, 7, 8.1 and 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vhdtool.errors import NotFoundError
from vhdtool.guest.model import InstallState
from vhdtool.guest.source import WindowsInstallation
from vhdtool.guest.values import number, text
from vhdtool.knowledge.windows_servicing import image_states
from vhdtool.registry.hive import Hive

STATE_KEY = r"Microsoft\Windows\CurrentVersion\Setup\State"
STATE_FILE = "Setup/State/State.ini"
MAX_STATE_FILE = 64 << 10

SETUP_IDLE = 0
"""``SetupType`` of a system that starts normally; others start ``CmdLine`` first."""

GENERALIZED = 3
"""``GeneralizationState`` after sysprep /generalize; 7 once the image is complete again."""


@dataclass(frozen=True, slots=True)
class SetupFacts:
    r"""The values of ``SYSTEM\Setup`` that tell whether a setup phase comes next; ``None`` where absent."""

    in_progress: int | None
    setup_type: int | None
    oobe: int | None
    audit: int | None
    generalization: int | None
    command: str | None

    @property
    def known(self) -> bool:
        """Whether the key says anything."""
        return self.in_progress is not None or self.setup_type is not None

    @property
    def running(self) -> bool:
        """Whether the next start runs a setup phase."""
        return bool(self.in_progress) or (self.setup_type or SETUP_IDLE) != SETUP_IDLE


def read_setup(system: Hive) -> SetupFacts:
    r"""Read ``SYSTEM\Setup``."""
    setup = system.key("Setup")
    return SetupFacts(
        in_progress=number(setup, "SystemSetupInProgress"),
        setup_type=number(setup, "SetupType"),
        oobe=number(setup, "OOBEInProgress"),
        audit=number(system.key(r"Setup\Status"), "AuditBoot"),
        generalization=number(system.key(r"Setup\Status\SysprepStatus"), "GeneralizationState"),
        command=text(setup, "CmdLine"),
    )


def read_image_state(installation: WindowsInstallation, software: Hive | None) -> str | None:
    """Read ``ImageState``, from the registry or else from the file that mirrors it."""
    key = None if software is None else software.key(STATE_KEY)
    return text(key, "ImageState") or _state_file(installation)


def install_state(image_state: str | None, setup: SetupFacts | None) -> InstallState:
    """Judge by both; an ``ImageState`` that is not known counts as none."""
    named = image_states().get((image_state or "").upper())
    if named == "complete" and setup is not None and setup.running:
        return "oobe" if setup.oobe else "setup"
    if named == "specialize" and setup is not None and setup.oobe:
        return "oobe"
    if named is not None:
        return named  # type: ignore[return-value]  # a test holds the table to the type
    if setup is None or not setup.known:
        return "unknown"
    return _by_setup(setup)


def _by_setup(setup: SetupFacts) -> InstallState:
    if setup.audit:
        return "audit"
    if not setup.running:
        return "complete"
    command = (setup.command or "").lower()
    # sysprep of Vista and later leaves windeploy.exe, that of XP and 2003 mini-setup
    if setup.generalization == GENERALIZED or "windeploy" in command or "-mini" in command:
        return "generalized"
    return "oobe" if setup.oobe else "setup"


def _state_file(installation: WindowsInstallation) -> str | None:
    try:
        file = installation.filesystem.open(installation.path(STATE_FILE))
    except NotFoundError:
        return None
    data = file.read_at(0, min(file.size, MAX_STATE_FILE))
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "latin-1"
    match = re.search(r"^\s*ImageState\s*=\s*(\w+)", data.decode(encoding, errors="replace"), re.MULTILINE)
    return match[1] if match else None
