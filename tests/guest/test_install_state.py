from __future__ import annotations

import pytest

from tests.guest.guests import WINDOWS_2012_R2, guest
from vhdtool.guest.install_state import STATE_KEY, install_state, read_image_state, read_setup

IDLE = {"SystemSetupInProgress": 0, "SetupType": 0, "OOBEInProgress": 0, "CmdLine": ""}
DEPLOY = {"SystemSetupInProgress": 1, "SetupType": 2, "OOBEInProgress": 1, "CmdLine": r"oobe\windeploy.exe"}
SETUP = {"SystemSetupInProgress": 1, "SetupType": 1, "OOBEInProgress": 0, "CmdLine": "setup -newsetup"}


@pytest.mark.parametrize(
    ("image_state", "setup", "expected"),
    [
        ("IMAGE_STATE_COMPLETE", IDLE, "complete"),
        ("image_state_complete", IDLE, "complete"),
        ("IMAGE_STATE_COMPLETE", DEPLOY, "oobe"),
        ("IMAGE_STATE_COMPLETE", SETUP, "setup"),
        ("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE", DEPLOY, "generalized"),
        ("IMAGE_STATE_GENERALIZE_RESEAL_TO_AUDIT", DEPLOY, "generalized"),
        ("IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE", IDLE, "specialize"),
        ("IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE", DEPLOY, "oobe"),
        ("IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT", IDLE, "audit"),
        ("IMAGE_STATE_UNDEPLOYABLE", SETUP, "undeployable"),
        (None, IDLE, "complete"),
        (None, SETUP, "setup"),
        (None, DEPLOY, "generalized"),
        (None, {**SETUP, "CmdLine": "setup -newsetup -mini"}, "generalized"),
        (None, {}, "unknown"),
        ("IMAGE_STATE_OF_GRACE", IDLE, "complete"),
        ("IMAGE_STATE_OF_GRACE", {}, "unknown"),
    ],
)
def test_install_states(image_state: str | None, setup: dict[str, int | str], expected: str) -> None:
    software = {**WINDOWS_2012_R2, STATE_KEY: {} if image_state is None else {"ImageState": image_state}}
    installation = guest({"Setup": setup}, software)
    found = read_image_state(installation, installation.hive("SOFTWARE"))
    assert install_state(found, read_setup(installation.hive("SYSTEM"))) == expected


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_the_state_file_answers_where_the_registry_does_not(encoding: str) -> None:
    text = "[State]\r\nImageState=IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE\r\n"
    installation = guest(files={"Windows/Setup/State/State.ini": text.encode(encoding)})
    assert read_image_state(installation, installation.hive("SOFTWARE")) == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"


def test_audit_mode_and_the_generalized_mark() -> None:
    audit = guest({"Setup": SETUP, r"Setup\Status": {"AuditBoot": 1}})
    assert install_state(None, read_setup(audit.hive("SYSTEM"))) == "audit"
    sealed = guest({"Setup": SETUP, r"Setup\Status\SysprepStatus": {"GeneralizationState": 3}})
    assert install_state(None, read_setup(sealed.hive("SYSTEM"))) == "generalized"
    assert install_state(None, None) == "unknown"
