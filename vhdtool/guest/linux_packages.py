"""Which package of a Linux guest a file belongs to, as the databases of dpkg, rpm and apk say it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vhdtool.guest.linux_model import LinuxPackage, PackageManager
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Troubles

DPKG_STATUS = "/var/lib/dpkg/status"
DPKG_INFO = "/var/lib/dpkg/info"
APK_DATABASES = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
LARGEST_DATABASE = 64 << 20
LARGEST_LIST = 32 << 20
MOST_LISTS = 20_000
MOST_LIST_BYTES = 256 << 20

LIKELY = re.compile(r"hyper-?v|hv|kernel|linux|cloud-tools|msft|azure|lis", re.IGNORECASE)
"""Packages that are looked into first: daemons and kernels have such names everywhere."""


class PackageDatabase(Protocol):
    """A database of installed packages."""

    manager: PackageManager

    def owners(self, paths: Sequence[str], thorough: Collection[str] = ()) -> dict[str, LinuxPackage]:
        """The packages that the files belong to; a file of no package is left out.

        All packages are searched for those in ``thorough``, for the others those alone that have such files.
        """


def open_packages(tree: LinuxTree, troubles: Troubles) -> PackageDatabase | None:
    """Find the package database; ``None`` where there is none that is known."""
    with troubles.guard("the package database"):
        if tree.is_file(DPKG_STATUS):
            return DpkgDatabase(tree)
        for path in APK_DATABASES:
            if tree.is_file(path):
                return ApkDatabase(tree, path)
        from vhdtool.guest.linux_rpm import find_rpm  # noqa: PLC0415  # only for guests with rpm

        return find_rpm(tree)
    return None


def same_file(path: str) -> tuple[str, ...]:
    """The names that a package may have for a file: systems with one ``/usr`` keep the names of before."""
    if path.startswith("/usr/"):
        other = path[len("/usr") :]
        names = [path, other] if re.match(r"/(bin|sbin|lib|lib64)/", other) else [path]
    elif re.match(r"/(bin|sbin|lib|lib64)/", path):
        names = [path, f"/usr{path}"]
    else:
        names = [path]
    # the newest systems have one directory for programs
    return (*names, *(name.replace("/sbin/", "/bin/", 1) for name in names if "/sbin/" in name))


def by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths that each name may stand for, by all names that a package may have for them."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for name in same_file(path):
            found.setdefault(name, []).append(path)
    return found


@dataclass(frozen=True, slots=True)
class _Stanza:
    name: str
    version: str
    architecture: str
    state: str | None


class DpkgDatabase:
    """``/var/lib/dpkg``: one text for all packages, and a list of files for each (dpkg(1), deb-control(5))."""

    manager: PackageManager = "dpkg"

    def __init__(self, tree: LinuxTree) -> None:
        self._tree = tree
        text = tree.text(DPKG_STATUS, LARGEST_DATABASE) or ""
        self._packages = tuple(_dpkg_stanzas(text))

    def owners(self, paths: Sequence[str], thorough: Collection[str] = ()) -> dict[str, LinuxPackage]:
        """As :meth:`PackageDatabase.owners`."""
        found: dict[str, LinuxPackage] = {}
        left = by_name(paths)
        budget = MOST_LIST_BYTES
        ordered = sorted(self._packages, key=lambda package: LIKELY.search(package.name) is None)
        for package in ordered[:MOST_LISTS]:
            if LIKELY.search(package.name) is None:
                left = by_name(path for path in paths if path in thorough and path not in found)
            if not left or budget <= 0:
                break
            lines = self._list(package)
            budget -= len(lines)
            for name in [name for name in left if b"\n" + name.encode() + b"\n" in lines]:
                for path in left[name]:
                    found.setdefault(path, LinuxPackage(package.name, package.version, package.state))
            left = {name: whose for name, whose in left.items() if any(path not in found for path in whose)}
        return found

    def _list(self, package: _Stanza) -> bytes:
        """The files of a package, each line with a line feed on both sides."""
        for stem in (package.name, f"{package.name}:{package.architecture}"):
            data = self._tree.read(f"{DPKG_INFO}/{stem}.list", LARGEST_LIST)
            if data is not None:
                return b"\n" + data + b"\n"
        return b""


def _dpkg_stanzas(text: str) -> Iterator[_Stanza]:
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture):[ \t]*(.*?)[ \t]*$", stanza, re.MULTILINE))
        state = fields.get("Status", "").rpartition(" ")[2]
        if "Package" in fields and state not in {"not-installed", "config-files", ""}:
            yield _Stanza(
                fields["Package"],
                fields.get("Version", ""),
                fields.get("Architecture", ""),
                None if state == "installed" else state,
            )


class ApkDatabase:
    """``/lib/apk/db/installed``: letters and values, ``F:`` a directory, ``R:`` a file in it (apk-tools)."""

    manager: PackageManager = "apk"

    def __init__(self, tree: LinuxTree, path: str) -> None:
        self._text = tree.text(path, LARGEST_DATABASE) or ""

    def owners(self, paths: Sequence[str], thorough: Collection[str] = ()) -> dict[str, LinuxPackage]:
        """As :meth:`PackageDatabase.owners`."""
        wanted = by_name(paths)
        found: dict[str, LinuxPackage] = {}
        for name, package in _apk_files(self._text.splitlines()):
            for path in wanted.get(name, ()):
                found.setdefault(path, package)
        return found


def _apk_files(lines: Iterable[str]) -> Iterator[tuple[str, LinuxPackage]]:
    name = version = folder = ""
    for line in lines:
        letter, value = line[:2], line[2:]
        match letter:
            case "P:":
                name, version, folder = value, "", ""
            case "V:":
                version = value
            case "F:":
                folder = value
            case "R:":
                yield f"/{folder}/{value}" if folder else f"/{value}", LinuxPackage(name, version)
