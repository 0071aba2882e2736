r"""Names of services as the guest shows them.

``DisplayName`` is a plain string, or a reference that Windows resolves when it shows it:
``@%SystemRoot%\system32\icsvc.dll,-101`` is a string of that file's string table, in Windows 8 and later of its
``.mui`` file in the directory of the language; ``@wvmbus.inf,%vmbus.SVCDESC%;Virtual Machine Bus`` carries the text
for want of a better one behind the semicolon. Source: Microsoft, RegLoadMUIStringW, "Remarks".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from vhdtool.errors import NotFoundError
from vhdtool.guest.control_set import ControlSet
from vhdtool.guest.source import Troubles, WindowsInstallation
from vhdtool.guest.values import text
from vhdtool.package.pe import ENGLISH, PortableExecutable

NameSource = Literal["image", "registry", "table"]

ENGLISH_NAME = "en-US"
MAX_LANGUAGES = 64

_REFERENCE = re.compile(r"@(?P<file>[^,;]+),-(?P<id>\d{1,5})(?:;.*)?", re.ASCII | re.DOTALL)
_INF_TEXT = re.compile(r"@[^,;]+\.inf,[^;]*;(?P<text>.+)", re.IGNORECASE | re.DOTALL)
_WINDOWS_DIRECTORY = re.compile(
    r"(?:%systemroot%|%windir%|\\systemroot|[a-z]:\\windows|[a-z]:\\winnt)\\", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class DisplayName:
    """A name, and where it is from: a file of the image, the registry itself, or our table."""

    text: str
    source: NameSource


class DisplayNames:
    """Resolves display names in the guest's own language, else in English, else in any the file has."""

    def __init__(self, installation: WindowsInstallation, control_set: ControlSet, troubles: Troubles) -> None:
        self._installation = installation
        self._control_set = control_set
        self._troubles = troubles
        self._files: dict[str, PortableExecutable | None] = {}
        self._known: dict[str, str | None] = {}
        self._languages: tuple[tuple[str, int | None], ...] | None = None

    def resolve(self, written: str | None, *, table: str | None = None, open_files: bool = True) -> DisplayName | None:
        """The name that ``DisplayName`` stands for; ``table`` is the one to fall back on.

        Without ``open_files`` a reference to a file is not followed.
        """
        if written and not written.startswith("@"):
            return DisplayName(written, "registry")
        in_registry = _INF_TEXT.fullmatch(written or "")
        if in_registry:
            return DisplayName(in_registry["text"].strip(), "registry")
        reference = _REFERENCE.fullmatch(written or "")
        if reference and open_files:
            found = self._string(reference["file"], int(reference["id"]))
            if found:
                return DisplayName(found, "image")
        return DisplayName(table, "table") if table else None

    def _string(self, file: str, string_id: int) -> str | None:
        key = f"{file.lower()},{string_id}"
        if key not in self._known:
            self._known[key] = self._look_up(below_windows(file), string_id)
        return self._known[key]

    def _look_up(self, path: str | None, string_id: int) -> str | None:
        if path is None:
            return None
        lcids = tuple(lcid for _, lcid in self._language_order() if lcid is not None)
        for place in self._places(path):
            file = self._file(place)
            if file is None:
                continue
            self._files[place] = None  # until it is known to be whole: a broken file is noted once
            with self._troubles.guard(f"the strings of {place}"):
                found = file.string(string_id, lcids)
                self._files[place] = file
                if found:
                    return found
        return None

    def _places(self, path: str) -> Iterator[str]:
        directory, _, name = path.rpartition("/")
        for language, _ in self._language_order():
            yield f"{directory}/{language}/{name}.mui"
        yield path

    def _file(self, path: str) -> PortableExecutable | None:
        if path not in self._files:
            self._files[path] = None
            with self._troubles.guard(f"the file {path}"):
                try:
                    file = self._installation.filesystem.open(self._installation.path(path))
                    self._files[path] = PortableExecutable(file, file.path)
                except NotFoundError:
                    pass
        return self._files[path]

    def _language_order(self) -> tuple[tuple[str, int | None], ...]:
        if self._languages is None:
            order: dict[str, int | None] = {}
            with self._troubles.guard("the guest's languages"):
                code = text(self._control_set.key(r"Control\Nls\Language"), "InstallLanguage")
                installed = int(code, 16) if code and re.fullmatch(r"[0-9a-fA-F]{4,8}", code) else None
                name = None if installed is None else _language_name(installed)
                if name is not None:
                    order[name] = installed
                order.setdefault(ENGLISH_NAME, ENGLISH)
                others = self._control_set.key(r"Control\MUI\UILanguages")
                for key in islice(() if others is None else others.subkeys(), MAX_LANGUAGES):
                    if re.fullmatch(r"[A-Za-z0-9-]{2,32}", key.name):
                        order.setdefault(key.name, None)
            self._languages = tuple(order.items())
        return self._languages


def _language_name(lcid: int) -> str | None:
    from locale import windows_locale  # noqa: PLC0415  # a large module, and few images ask

    name = windows_locale.get(lcid)
    return None if name is None else name.replace("_", "-")


def below_windows(file: str) -> str | None:
    r"""``%SystemRoot%\system32\icsvc.dll`` as ``system32/icsvc.dll``; ``None`` for a file elsewhere."""
    path = file.strip().strip('"')
    match = _WINDOWS_DIRECTORY.match(path)
    if match:
        path = path[match.end() :]
    elif re.search(r"[\\/:%]", path):
        return None
    else:
        path = f"System32\\{path}"
    parts = path.split("\\")
    return None if any(part in {"", ".", ".."} for part in parts) else "/".join(parts)
