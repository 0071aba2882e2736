"""Finish or roll back whatever an interrupted commit left, and replay pending logs: ``vhdtool recover``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vhdtool.disk.commit import Recovered
from vhdtool.disk.device import FileDevice
from vhdtool.disk.host_store import OS_STORE, HostStore
from vhdtool.disk.open_layer import refuse_no_file
from vhdtool.progress import SILENT, Progress

Step = Callable[[str, HostStore, Progress], Recovered | None]


def recover_image(path: str, *, store: HostStore = OS_STORE, progress: Progress = SILENT) -> tuple[Recovered, ...]:
    """Bring an image file to rest; parents are not touched. Nothing to do: an empty result, and nothing is written.

    The caller holds the lock of the file. A journal goes first, because the file says of itself that it is damaged
    while one is being applied. Raises what the steps raise.
    """
    refuse_no_file(path)
    done = []
    for step in _steps(path):
        recovered = step(path, store, progress)
        if recovered is not None:
            done.append(recovered)
    return tuple(done)


def _steps(path: str) -> Iterator[Step]:
    """Each step is chosen when the one before it has ended."""
    from vhdtool.disk.recover_journal import recover_journal  # noqa: PLC0415  # none of these is needed to read

    yield recover_journal
    from vhdtool.disk.recover_copy import recover_copy  # noqa: PLC0415

    yield recover_copy
    if _is_vhdx(path):
        from vhdtool.disk.recover_vhdx import recover_vhdx  # noqa: PLC0415

        yield recover_vhdx
    elif _is_vhd(path):
        from vhdtool.disk.recover_vhd import recover_vhd  # noqa: PLC0415

        yield recover_vhd


def _is_vhdx(path: str) -> bool:
    from vhdtool.disk.vhdx_header import looks_like_vhdx  # noqa: PLC0415

    return _looks(path, looks_like_vhdx)


def _is_vhd(path: str) -> bool:
    from vhdtool.disk.vhd import looks_like_vhd  # noqa: PLC0415

    return _looks(path, looks_like_vhd)


def _looks(path: str, like: Callable[[FileDevice], bool]) -> bool:
    file = FileDevice(path)
    try:
        return like(file)
    finally:
        file.close()
