"""Every check that is built in."""

from __future__ import annotations

from vhdtool.checks.baseline_guest import STATE_CHECKS
from vhdtool.checks.baseline_image import IMAGE_CHECKS
from vhdtool.checks.baseline_integration import INTEGRATION_CHECKS
from vhdtool.checks.model import Check

BASELINE: tuple[Check, ...] = (*IMAGE_CHECKS, *INTEGRATION_CHECKS, *STATE_CHECKS)
"""In the order they are told; those with ``on`` are the baseline, the others a policy asks for."""
