"""XML of packages: read with defusedxml, within limits, into a plain tree.

No servicing file declares a document type, entities or anything external: one that does is refused, and nothing is
ever fetched or expanded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vhdtool.errors import DamagedError, MissingSupportError, RefusedError

MAX_XML = 32 << 20
"""Longest file that is parsed, in bytes; the largest of genuine cumulative updates have some megabytes."""
MAX_DEPTH = 64
"""Genuine manifests stay below 12."""
MAX_ELEMENTS = 250_000
MAX_ATTRIBUTES = 256
"""Most attributes of one element; genuine ones have below 20."""
MAX_TAG = 1 << 20
"""Longest tag with its attributes, in bytes: the parser holds it whole before anything here sees it."""
MAX_TEXT = 1 << 20
"""Longest text of one element, in characters."""
_FED_AT_ONCE = 1 << 16


@dataclass(slots=True)
class XmlElement:
    """An element: names without their namespaces, attributes, the text directly in it, children in order."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[XmlElement] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return an attribute, None where it is absent."""
        return self.attributes.get(name)

    def all(self, name: str) -> Iterator[XmlElement]:
        """Yield the children of a name."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> XmlElement | None:
        """Return the first child of a name."""
        return next(self.all(name), None)

    def below(self, *names: str) -> Iterator[XmlElement]:
        """Yield the elements that a path of names leads to, in order."""
        if not names:
            yield self
            return
        for child in self.all(names[0]):
            yield from child.below(*names[1:])


def parse_xml(data: bytes, *, path: str) -> XmlElement:
    """Parse a file of a package and return its root.

    Raises:
        DamagedError: ``xml-damaged``.
        RefusedError: ``xml-forbidden``: it declares a document type or entities; ``xml-too-large``: it exceeds a
            limit of this module.
        MissingSupportError: ``defusedxml-missing``.
    """
    try:
        from defusedxml import DefusedXmlException  # noqa: PLC0415  # slow to import
        from defusedxml.ElementTree import DefusedXMLParser, ParseError  # noqa: PLC0415
    except ImportError as error:
        raise MissingSupportError(
            "defusedxml-missing",
            "the defusedxml package, which reads manifests, is not installed",
            hint="Install it: pip install defusedxml",
        ) from error
    if len(data) > MAX_XML:
        raise _too_large("the file is too long", path, f"{MAX_XML} bytes", len(data))
    tree = _Tree(path)
    parser = DefusedXMLParser(target=tree, forbid_dtd=True)
    try:
        for offset in range(0, len(data), _FED_AT_ONCE):
            parser.feed(data[offset : offset + _FED_AT_ONCE])
            if offset - parser.parser.CurrentByteIndex > MAX_TAG:
                raise _too_large("a tag is too long", path, f"{MAX_TAG} bytes", "more")
        root: XmlElement = parser.close()
    except DefusedXmlException as error:
        raise RefusedError(
            "xml-forbidden",
            "the file declares a document type or entities",
            path=path,
            found=type(error).__name__,
            hint="No update package does that: do not use this one.",
        ) from error
    except (ParseError, LookupError, ValueError) as error:  # the latter two: an encoding it does not know
        raise DamagedError(
            "xml-damaged",
            f"not well-formed XML: {error}",
            path=path,
            hint="The package is damaged: copy it again from where it came from.",
        ) from error
    return root


class _Tree:
    """Builds the tree while the parser runs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._root: XmlElement | None = None
        self._open: list[XmlElement] = []
        self._texts: list[tuple[list[str], int]] = []  # of each open element: the pieces, and how long together
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) == MAX_DEPTH:
            raise _too_large("the elements are nested too deep", self._path, MAX_DEPTH, "more")
        if self._count > MAX_ELEMENTS:
            raise _too_large("there are too many elements", self._path, MAX_ELEMENTS, "more")
        if len(attributes) > MAX_ATTRIBUTES:
            raise _too_large("an element has too many attributes", self._path, MAX_ATTRIBUTES, len(attributes))
        element = XmlElement(_local(tag), {_local(name): value for name, value in attributes.items()})
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)
        self._texts.append(([], 0))

    def end(self, _tag: str) -> None:
        pieces, _ = self._texts.pop()
        self._open.pop().text = "".join(pieces)

    def data(self, text: str) -> None:
        if self._open and not text.isspace():
            pieces, length = self._texts[-1]
            if length + len(text) > MAX_TEXT:
                raise _too_large("the text of an element is too long", self._path, f"{MAX_TEXT} characters", "more")
            pieces.append(text)  # put together once: comments between them would make that quadratic
            self._texts[-1] = pieces, length + len(text)

    def close(self) -> XmlElement | None:
        return self._root


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _too_large(message: str, path: str, limit: object, found: object) -> RefusedError:
    return RefusedError(
        "xml-too-large",
        message,
        path=path,
        expected=f"at most {limit}",
        found=found,
        hint="No update package is like this: do not use this one.",
    )
