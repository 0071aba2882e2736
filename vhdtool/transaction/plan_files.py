"""Plans for files: what would be put into a guest's file system, and taken out of it."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.bytesource import ByteSource, sha256_of
from vhdtool.errors import NotFoundError, RefusedError
from vhdtool.fs.base import FileStat, GuestFilesystem
from vhdtool.fs.paths import join_path, split_path
from vhdtool.transaction.plan import FileChange, Plan

DEEPEST = 256
MOST_REMOVED = 100_000
"""A removed tree has at most so many entries: every one of them is listed in the plan."""


def plan_put(  # each says another thing of the file
    filesystem: GuestFilesystem,
    volume: int,
    path: str,
    content: ByteSource,
    *,
    source: str,
    security: bytes | None = None,
) -> Plan:
    """Plan a file with ``content`` at ``path``, over a file that is there.

    Raises :class:`NotFoundError` ``no-such-folder``, :class:`RefusedError` ``not-a-file``.
    """
    parts = split_path(path)
    there = filesystem.stat(path) if parts else None
    if not parts or (there is not None and there.kind != "file"):
        raise RefusedError(
            "not-a-file",
            "what is there is no plain file, and only a file can be replaced by one",
            path=path,
            found=there.kind if there is not None else "directory",
            hint="Name a file; into a directory: vhdtool put IMAGE SRC DIRECTORY/",
        )
    _require_folder(filesystem, parts[:-1], path)
    digest = sha256_of(content)
    same = there is not None and there.size == content.size and sha256_of(filesystem.open(path)) == digest
    change = FileChange(
        volume,
        "put",
        join_path(parts),
        changes=not same,
        size_before=None if there is None else there.size,
        size=content.size,
        source=source,
        content=content,
        sha256=digest,
        security=security,
    )
    return Plan(files=(change,))


def plan_make_directory(
    filesystem: GuestFilesystem, volume: int, path: str, *, parents: bool = False, security: bytes | None = None
) -> Plan:
    """Plan a directory, with ``parents`` those above it too. What is there already is left as it is.

    Raises :class:`NotFoundError` ``no-such-folder``, :class:`RefusedError` ``not-a-directory``.
    """
    parts = split_path(path)
    if not parents:
        _require_folder(filesystem, parts[:-1], path)
    changes = []
    for end in range(1 if parents else len(parts), len(parts) + 1):
        place = join_path(parts[:end])
        there = filesystem.stat(place) if end else None
        if there is not None and there.kind != "directory":
            raise RefusedError("not-a-directory", "something else has this name", path=place, found=there.kind)
        if there is None or end == len(parts):
            changes.append(FileChange(volume, "make-directory", place, changes=there is None, security=security))
    return Plan(files=tuple(changes))


def plan_remove(filesystem: GuestFilesystem, volume: int, path: str, *, recursive: bool = False) -> Plan:
    """Plan the removal of a file, a link or an empty directory, with ``recursive`` of a directory and all below it.

    Nothing there: nothing to do. Links are removed, never followed. Raises :class:`RefusedError`
    ``directory-not-empty``, ``remove-root``, ``too-many-files``.
    """
    parts = split_path(path)
    if not parts:
        raise RefusedError("remove-root", "the root of a volume can't be removed", path=path)
    place = join_path(parts)
    there = filesystem.stat(place)
    if there is None:
        return Plan(files=(FileChange(volume, "remove", place, changes=False),))
    removed: list[FileChange] = []
    for below, stat in _tree(filesystem, place, there):
        if below != place and not recursive:
            raise RefusedError(
                "directory-not-empty", "the directory is not empty", path=place, hint="Remove all of it: --recursive"
            )
        if len(removed) >= MOST_REMOVED:
            raise RefusedError("too-many-files", f"more than {MOST_REMOVED} files would be removed", path=place)
        size = stat.size if stat.kind == "file" else None
        removed.append(FileChange(volume, "remove", below, changes=True, size_before=size))
    return Plan(files=tuple(removed))


def _tree(filesystem: GuestFilesystem, place: str, stat: FileStat, depth: int = 0) -> Iterator[tuple[str, FileStat]]:
    """What is below a place, deepest first, then the place itself."""
    if stat.kind == "directory":
        if depth >= DEEPEST:
            raise RefusedError("too-deep", f"directories lie deeper than {DEEPEST}", path=place)
        for entry in filesystem.list(place):
            yield from _tree(filesystem, f"{place}/{entry.name}", entry, depth + 1)
    yield place, stat


def _require_folder(filesystem: GuestFilesystem, parts: list[str], path: str) -> None:
    if not parts:
        return
    there = filesystem.stat(join_path(parts))
    if there is None or there.kind not in ("directory", "symlink"):
        raise NotFoundError(
            "no-such-folder",
            "the directory that it should lie in is not there",
            path=path,
            found=join_path(parts),
            hint="Make it first: vhdtool mkdir IMAGE PATH --parents",
        )
