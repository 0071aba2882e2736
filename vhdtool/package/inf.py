r"""Driver information files (INF): the version of the driver, and the services it makes on which Windows.

Read is what those two need: ``[Version]``, ``[Manufacturer]`` and the models sections it leads to, ``AddService`` of
the ``.Services`` sections, the service-install sections those name, and ``[Strings]``.

Source: Microsoft, "General Syntax Rules for INF Files", "INF Version Section", "INF Manufacturer Section" (decorations
and which of them Windows takes), "INF AddService Directive", "Using Dirids".
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from vhdtool.errors import DamagedError
from vhdtool.package.identity import AssemblyVersion, parse_assembly_version

MAX_INF = 16 << 20
"""Longest file that is read, in bytes; genuine ones stay below 2 MiB."""
MAX_LINE = 4096
"""Longest line, and longest value with its strings put in, in characters: Windows' own limit."""
MAX_SERVICES = 2048
ENGLISH_STRINGS = "strings.0409"
START_VALUES = range(5)
_DIRECTORIES = {
    "10": "%SystemRoot%",
    "11": r"%SystemRoot%\System32",
    "12": r"%SystemRoot%\System32\drivers",
    "24": "%SystemDrive%",
}
_TOKEN = re.compile(r"%([^%]*)%")
_DECORATION = re.compile(r"nt([a-z][a-z0-9]*)?(?:\.(\d{1,5})?(?:\.(\d{1,5})?(?:\.|$))?)?", re.IGNORECASE)
_DRIVER_DATE = re.compile(r"\s*(\d{1,2})[/-](\d{1,2})[/-](\d{4})\s*", re.ASCII)
_SHORT_VERSION = re.compile(r"\d{1,5}(\.\d{1,5}){0,2}", re.ASCII)
_SERVICES = ".services"
_WINDOWS_SUFFIX = re.compile(r"\.nt[a-z0-9]*$")
_INTEGER = re.compile(r"0x[0-9a-f]{1,8}|\d{1,10}", re.IGNORECASE)

WindowsRelease = tuple[int, int]
"""Major and minor version of Windows."""


@dataclass(frozen=True, slots=True)
class ModelsSection:
    """A list of devices for some systems; ``decoration`` says which (``NTamd64.6``), empty: where no other fits."""

    name: str
    decoration: str


@dataclass(frozen=True, slots=True)
class InfService:
    r"""A service that the INF makes. ``start`` is the SCM's value 0 to 4; ``type`` the SCM's bits.

    ``binary`` has dirids replaced by what they stand for (``%SystemRoot%\System32\drivers``). ``models`` lead to it;
    none where it goes with no device.
    """

    name: str
    display_name: str | None
    start: int | None
    type: int | None
    binary: str | None
    models: tuple[ModelsSection, ...]


@dataclass(frozen=True, slots=True)
class DriverInf:
    """What an INF says of its driver. ``released`` and ``version`` are those of ``DriverVer``.

    ``services`` holds those for every system; see :meth:`services_on`.
    """

    driver_class: str | None
    class_guid: str | None
    provider: str | None
    released: date | None
    version: AssemblyVersion | None
    catalog: str | None
    models: tuple[ModelsSection, ...]
    services: tuple[InfService, ...]

    def services_on(self, architecture: str, release: WindowsRelease) -> tuple[InfService, ...]:
        """Return the services that are made on one Windows: those of the models sections that it takes."""
        taken: set[ModelsSection] = set()
        for name in {one.name for one in self.models}:
            taken |= taken_models((one for one in self.models if one.name == name), architecture, release)
        return tuple(one for one in self.services if not one.models or taken.intersection(one.models))


def taken_models(
    models: Iterable[ModelsSection], architecture: str, release: WindowsRelease
) -> frozenset[ModelsSection]:
    """Return what Windows takes of one name: the highest version not above its own, then that for its processor.

    More than one where they differ by the kind of Windows only (client, server).
    """
    ranked: dict[tuple[bool, WindowsRelease, bool], list[ModelsSection]] = {(False, (0, 0), False): []}
    for one in models:
        match = _DECORATION.match(one.decoration)
        if not one.decoration:
            ranked[False, (0, 0), False].append(one)
        elif match is not None and (match[1] or architecture).lower() == architecture.lower():
            least = (int(match[2] or 0), int(match[3] or 0))
            if least <= release:
                ranked.setdefault((True, least, match[1] is not None), []).append(one)
    return frozenset(ranked[max(ranked)])


def read_inf(data: bytes, *, path: str) -> DriverInf:
    """Read an INF.

    Raises:
        DamagedError: ``inf-damaged``: it is no text, has no ``[Version]``, or exceeds a limit of this module.
    """
    inf = _Inf(_text(data, path), path)
    version = dict(inf.pairs("version"))
    if "version" not in inf.sections:
        raise _damaged("the driver file has no [Version]", path)
    released, _, number = inf.value(version.get("driverver", "")).partition(",")
    models = tuple(dict.fromkeys(inf.models()))
    return DriverInf(
        driver_class=inf.value(version.get("class", "")) or None,
        class_guid=inf.value(version.get("classguid", "")).strip("{}").lower() or None,
        provider=inf.value(version.get("provider", "")) or None,
        released=_date(released),
        version=_version(number.strip()),
        catalog=inf.value(version.get("catalogfile", "")) or None,
        models=models,
        services=tuple(inf.services(models)),
    )


class _Inf:
    """The lines of an INF by section, sections and keys in lower case."""

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self.sections: dict[str, list[str]] = {}
        current: list[str] = []
        for line in _lines(text, path):
            if line.startswith("["):
                current = self.sections.setdefault(line[1:].partition("]")[0].strip().lower(), [])
            else:
                current.append(line)
        strings = [*self.pairs("strings"), *self.pairs(ENGLISH_STRINGS)]
        self._strings = {name: _unquoted(value) for name, value in strings}

    def pairs(self, section: str) -> Iterator[tuple[str, str]]:
        for line in self.sections.get(section, ()):
            name, equals, value = line.partition("=")
            if equals:
                yield _unquoted(name).lower(), value.strip()

    def value(self, text: str) -> str:
        """A value without its quotes, with the strings that it names put in."""
        text = _unquoted(text)
        if text.count("%") < 2:
            return text
        made, length = [], 0
        place = 0
        for match in _TOKEN.finditer(text):
            token = match[1]
            put = "%" if not token else self._strings.get(token.lower(), _DIRECTORIES.get(token, match[0]))
            made += [text[place : match.start()], put]
            place = match.end()
            length += len(made[-1]) + len(made[-2])
            if length > MAX_LINE:
                raise _damaged("a value is too long", self._path, f"at most {MAX_LINE} characters")
        return "".join(made) + text[place:]

    def models(self) -> Iterator[ModelsSection]:
        """The models sections that are there, as the manufacturers list them."""
        for _, line in self.pairs("manufacturer"):
            name, *decorations = (self.value(field) for field in _fields(line))
            for decoration in ("", *decorations):
                if _section_of(ModelsSection(name, decoration)) in self.sections:
                    yield ModelsSection(name, decoration)

    def services(self, models: Iterable[ModelsSection]) -> Iterator[InfService]:
        """The services, each distinct one once."""
        leading: dict[str, list[ModelsSection]] = {}
        for section in models:
            for _, line in self.pairs(_section_of(section)):
                leading.setdefault(self.value(_fields(line)[0]).lower(), []).append(section)
        found: dict[InfService, dict[ModelsSection, None]] = {}
        for name in self.sections:
            if not name.endswith(_SERVICES):
                continue
            install = name.removesuffix(_SERVICES)
            sections = leading.get(install) or leading.get(_WINDOWS_SUFFIX.sub("", install), [])
            for directive, line in self.pairs(name):
                if directive == "addservice" and (service := self._service(line)) is not None:
                    found.setdefault(service, {}).update(dict.fromkeys(sections))
            if len(found) > MAX_SERVICES:
                raise _damaged("the driver file makes too many services", self._path, f"at most {MAX_SERVICES}")
        for service, by in found.items():
            yield InfService(service.name, service.display_name, service.start, service.type, service.binary, tuple(by))

    def _service(self, line: str) -> InfService | None:
        fields = [self.value(field) for field in _fields(line)]
        if not fields[0] or len(fields) < 3 or fields[2].lower() not in self.sections:
            return None  # a device that gets no driver, or one whose driver another INF brings
        rows = dict(self.pairs(fields[2].lower()))
        start = _integer(self.value(rows.get("starttype", "")))
        return InfService(
            name=fields[0],
            display_name=self.value(rows.get("displayname", "")) or None,
            start=start if start in START_VALUES else None,
            type=_integer(self.value(rows.get("servicetype", ""))),
            binary=self.value(rows.get("servicebinary", "")) or None,
            models=(),
        )


def _text(data: bytes, path: str) -> str:
    if len(data) > MAX_INF:
        raise _damaged("the driver file is too long", path, f"at most {MAX_INF} bytes", len(data))
    encoding = "cp1252"
    for mark, name in (
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
        (codecs.BOM_UTF8, "utf-8-sig"),
    ):
        if data.startswith(mark):
            encoding = name
    text = data.decode(encoding, "replace")
    if "\0" in text:
        raise _damaged("the driver file is no text", path)
    return text


def _lines(text: str, path: str) -> Iterator[str]:
    """Lines without comments and blanks; one that ends in a backslash goes on in the next."""
    begun = ""
    for raw in text.splitlines():
        line = begun + _without_comment(raw).strip()
        if len(line) > MAX_LINE:
            raise _damaged("a line is too long", path, f"at most {MAX_LINE} characters", len(line))
        begun = line[:-1] if line.endswith("\\") else ""
        if line and not begun:
            yield line
    if begun:
        yield begun


def _without_comment(line: str) -> str:
    if ";" not in line:
        return line
    place = 0
    for piece in line.split(";"):
        place += len(piece)
        if line.count('"', 0, place) % 2 == 0:
            return line[:place]
        place += 1
    return line


def _fields(line: str) -> list[str]:
    """The fields of a line, divided by commas outside quotes."""
    fields, quoted = [""], False
    for piece in re.split('([",])', line):
        if piece == "," and not quoted:
            fields.append("")
            continue
        quoted ^= piece == '"'
        fields[-1] += piece
    return [field.strip() for field in fields]


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"')
    return text


def _section_of(models: ModelsSection) -> str:
    return (f"{models.name}.{models.decoration}" if models.decoration else models.name).lower()


def _integer(text: str) -> int | None:
    return int(text, 0) if _INTEGER.fullmatch(text) and not re.fullmatch("0\\d+", text) else None


def _date(text: str) -> date | None:
    match = _DRIVER_DATE.fullmatch(text)
    try:
        return date(int(match[3]), int(match[1]), int(match[2])) if match else None
    except ValueError:
        return None


def _version(text: str) -> AssemblyVersion | None:
    """A version of one to four numbers; those left out are zero."""
    return parse_assembly_version(text + ".0" * (3 - text.count(".")) if _SHORT_VERSION.fullmatch(text) else text)


def _damaged(message: str, path: str, expected: object = None, found: object = None) -> DamagedError:
    return DamagedError(
        "inf-damaged",
        message,
        path=path,
        expected=expected,
        found=found,
        hint="The package is damaged: copy it again from where it came from.",
    )
