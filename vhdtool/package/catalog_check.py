"""The layer of the catalogs: signed, and listing every .mum and .manifest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from vhdtool.errors import DamagedError, Problem
from vhdtool.package.catalog import Catalog, listed_files, read_catalog_message
from vhdtool.package.package_files import CATALOG, MANIFEST, PACKAGE_MANIFEST, PackageFile, PackageFiles
from vhdtool.package.signature import SignatureVerdict, check_signatures, combined_state, named_messages
from vhdtool.package.trust_roots import TrustRoot
from vhdtool.package.verdict import INVALID, MISSING, VALID, WEAK, LayerVerdict

LAYER = "catalog"


def check_catalogs(files: PackageFiles, roots: Sequence[TrustRoot], *, now: datetime) -> LayerVerdict:
    """Judge the catalogs of a package.

    A catalog whose signature does not hold lists nothing, and neither does one of its signatures that does not count
    by itself: a nested signature may be of another list. Files that only a SHA-1 digest lists make the layer weak.
    """
    found = files.of_kind(CATALOG)
    listed = files.of_kind(MANIFEST, PACKAGE_MANIFEST)
    problems = [
        Problem("file-unreadable", "the file can't be read from the cabinet", name)
        for name in files.unread_of_kind(CATALOG, MANIFEST, PACKAGE_MANIFEST)
    ]
    if not found and not problems:
        text = "the cabinet has no catalog" if listed else "the cabinet is no servicing package: it has no catalog"
        return LayerVerdict(LAYER, MISSING, text)
    catalogs: list[Catalog] = []
    verdicts: list[SignatureVerdict] = []
    states: set[str] = set()
    for one in found:
        try:
            message = read_catalog_message(one.content or b"", path=one.name)
            checked = check_signatures(message, roots, now=now, path=one.name)
            verdicts += checked
            state = combined_state(checked)
            states.add(state)
            if state == INVALID:
                problems += [problem for verdict in checked for problem in verdict.problems]
                continue
            refused = {verdict.place for verdict in checked if verdict.state == INVALID}
            catalogs += [
                listed_files(signed, path=one.name) for place, signed in named_messages(message) if place not in refused
            ]
        except DamagedError as error:
            problems.append(Problem(error.code, error.message, one.name, error.offset))
    states |= {_listing(one, catalogs, problems) for one in listed}
    state = INVALID if problems else WEAK if WEAK in states else VALID
    return LayerVerdict(
        LAYER, state, _text(state, len(listed)), tuple(problems), signatures=tuple(verdicts), checked=len(listed)
    )


def _listing(file: PackageFile, catalogs: Sequence[Catalog], problems: list[Problem]) -> str:
    algorithms = {catalog.lists(file.digests) for catalog in catalogs}
    if algorithms == {None} or not algorithms:
        text = "no catalog with a good signature lists the file as it is"
        problems.append(Problem("not-in-catalog", text, file.name))
        return INVALID
    return WEAK if algorithms <= {None, "sha1"} else VALID


def _text(state: str, count: int) -> str:
    if state == INVALID:
        return "the catalogs do not vouch for every manifest"
    weak = ", by SHA-1 in part" if state == WEAK else ""
    return f"{count} manifests are listed in signed catalogs{weak}"
