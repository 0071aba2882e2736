"""Reads and services offline Hyper-V disk images: integration services, service start types, registry, files.

    import vhdtool

    with vhdtool.open_image("server.vhdx") as image:
        print(image.guests[0].integration_services.version)

    target = vhdtool.Target("child", "serviced.vhdx")
    with vhdtool.open_for_change("server.vhdx", target) as (image, notes):
        plan = vhdtool.plan_registry(image.installation(), "SYSTEM", [operation])
        with vhdtool.Transaction(image, plan) as transaction:
            receipt = transaction.run(target, notes)

Nothing here prints, reads the environment or ends the process. Every error is a :class:`VhdtoolError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vhdtool.errors import VhdtoolError

if TYPE_CHECKING:
    from vhdtool.disk.commit import Target
    from vhdtool.image import Image, open_image
    from vhdtool.transaction.plan import Plan
    from vhdtool.transaction.plan_registry import plan_registry
    from vhdtool.transaction.transaction import Receipt, Transaction, open_for_change

__version__ = "0.1.0"

_PLACES = {
    "Image": "vhdtool.image",
    "Plan": "vhdtool.transaction.plan",
    "Receipt": "vhdtool.transaction.transaction",
    "Target": "vhdtool.disk.commit",
    "Transaction": "vhdtool.transaction.transaction",
    "open_for_change": "vhdtool.transaction.transaction",
    "open_image": "vhdtool.image",
    "plan_registry": "vhdtool.transaction.plan_registry",
}

__all__ = [
    "Image",
    "Plan",
    "Receipt",
    "Target",
    "Transaction",
    "VhdtoolError",
    "__version__",
    "open_for_change",
    "open_image",
    "plan_registry",
]


def __getattr__(name: str) -> Any:
    """Import the facade when it is asked for: ``import vhdtool`` alone stays cheap (``--help`` needs no reader)."""
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(place), name)
