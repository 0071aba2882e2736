"""Reads offline Hyper-V disk images: integration services version, service start types, registry, files.

    import vhdtool

    with vhdtool.open_image("server.vhdx") as image:
        print(image.guests[0].integration_services.version)

Nothing here prints, reads the environment or ends the process. Every error is a :class:`VhdtoolError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vhdtool.errors import VhdtoolError

if TYPE_CHECKING:
    from vhdtool.image import Image, open_image

__version__ = "0.1.0"

__all__ = ["Image", "VhdtoolError", "__version__", "open_image"]


def __getattr__(name: str) -> Any:
    """Import the facade when it is asked for: ``import vhdtool`` alone stays cheap (``--help`` needs no reader)."""
    if name in {"Image", "open_image"}:
        from vhdtool import image  # noqa: PLC0415  # see the docstring

        return getattr(image, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
