"""Is there room on the host for what is to be written?"""

from __future__ import annotations

from vhdtool.disk.host_store import HostStore
from vhdtool.errors import OutputError


def refuse_no_room(store: HostStore, path: str, needed: int, *, hint: str | None = None) -> None:
    """Hold that ``needed`` more bytes fit into the folder of ``path``. A host that doesn't say how much is trusted.

    Raises :class:`OutputError` ``no-room``.
    """
    free = store.free_space(path)
    if free is not None and free < needed:
        raise OutputError(
            "no-room",
            "there is not enough room for the change in the image's folder",
            path=path,
            expected=f"{needed} bytes free",
            found=f"{free} bytes",
            hint=hint or "Make room there, or write to another place: --child or --output.",
        )
