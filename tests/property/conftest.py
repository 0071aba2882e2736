"""How many examples the properties try: few in CI, many in ``scripts/long``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_common = {
    "deadline": None,  # the machine may be shared; hangs are the fuzz run's business
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    "print_blob": True,
}
settings.register_profile("ci", max_examples=25, **_common)
settings.register_profile("long", max_examples=400, **_common)
settings.load_profile(os.environ.get("VHDTOOL_PROPERTY_PROFILE", "ci"))
