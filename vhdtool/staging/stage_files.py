"""Files of a stage as changes of a plan: what is put below the Windows directory, and taken out again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from vhdtool.bytesource import ByteSource, BytesSource, sha256_of
from vhdtool.fs.security_descriptor import STAGED_DIRECTORY, STAGED_FILE, from_sddl
from vhdtool.guest.source import WindowsInstallation
from vhdtool.transaction.plan import FileChange
from vhdtool.transaction.plan_files import plan_put, plan_remove

SETUP = "Setup"
SCRIPTS = "Setup/Scripts"
SETUP_COMPLETE = "Setup/Scripts/SetupComplete.cmd"
MAX_SCRIPT = 1 << 20


class StageFiles:
    """The guest's file system as the changes up to now would leave it, below one Windows directory.

    ``made`` are the directories that were made, outermost first.
    """

    def __init__(self, installation: WindowsInstallation) -> None:
        self._installation = installation
        self._changes: list[FileChange] = []
        self._gone: set[str] = set()
        self.made: list[str] = []

    @property
    def changes(self) -> tuple[FileChange, ...]:
        """What was planned, in order."""
        return tuple(self._changes)

    def directory(self, path: str, *, restricted: bool) -> None:
        """A directory, made where it is missing; ``restricted`` to SYSTEM and administrators then."""
        place = self._installation.path(path)
        there = self._installation.filesystem.stat(place)
        if (there is not None and place not in self._gone) or path in self.made:
            return
        security = from_sddl(STAGED_DIRECTORY).to_bytes() if restricted else None
        self._gone.discard(place)
        self._add(FileChange(self._volume, "make-directory", place, changes=True, security=security))
        self.made.append(path)

    def put(self, path: str, content: bytes | ByteSource, *, source: str, new: bool = True) -> FileChange:
        """A file. ``new``: with a stage's descriptor; else one that is replaced keeps its own."""
        source_bytes = BytesSource(content) if isinstance(content, bytes) else content
        security = from_sddl(STAGED_FILE).to_bytes() if new else None
        place = self._installation.path(path)
        if place not in self._gone and self._folder_is_there(path):
            plan = plan_put(
                self._installation.filesystem, self._volume, place, source_bytes, source=source, security=security
            )
            change = plan.files[0]
        else:
            change = FileChange(
                self._volume, "put", place, changes=True, size=source_bytes.size, source=source, content=source_bytes,
                sha256=sha256_of(source_bytes), security=security,
            )  # fmt: skip
        self._gone.discard(place)
        self._add(change)
        return change

    def remove(self, path: str) -> None:
        """A file, or a directory with all below it."""
        for change in plan_remove(
            self._installation.filesystem, self._volume, self._installation.path(path), recursive=True
        ).files:
            self._gone.add(change.path)
            self._add(change)

    def remove_if_empty(self, path: str, keep: Collection[str] = ()) -> None:
        """A directory, where nothing is left in it."""
        place = self._installation.path(path)
        there = self._installation.filesystem.stat(place)
        if there is None or there.kind != "directory" or place in self._gone or path in keep:
            return
        if all(f"{place}/{entry.name}" in self._gone for entry in self._installation.filesystem.list(place)):
            self._gone.add(place)
            self._add(FileChange(self._volume, "remove", place, changes=True))

    @property
    def _volume(self) -> int:
        return self._installation.volume_index

    def _folder_is_there(self, path: str) -> bool:
        folder = path.rpartition("/")[0]
        place = self._installation.path(folder)
        return folder not in self.made and place not in self._gone

    def _add(self, change: FileChange) -> None:
        self._changes.append(change)


def listed(changes: Iterable[FileChange], root: str) -> Iterator[tuple[str, str, int]]:
    """The files that are put: path below the Windows directory, SHA-256, size."""
    for change in changes:
        if change.action == "put":
            yield change.path[len(root.rstrip("/")) + 1 :], change.sha256 or "", change.size or 0
