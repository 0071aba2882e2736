"""The document of ``vhdtool diff``: two images' guests held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from vhdtool.disk.shared_blocks import SharedBlocks
from vhdtool.guest.difference import RegistryDifference, compare_identity, compare_registry, compare_services
from vhdtool.guest.file_difference import MayDiffer, compare_files
from vhdtool.guest.key_path import mount_of
from vhdtool.guest.source import Troubles
from vhdtool.image import Image
from vhdtool.report.change import registry_data
from vhdtool.report.document_diff import DiffDocument, RegistryDifferenceFact, UnreadFact
from vhdtool.report.encode import image_name
from vhdtool.transaction.plan import StoredValue
from vhdtool.volume.partitions import Volume

PARTS = ("services", "registry", "files")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class DiffChoice:
    """What to compare: ``parts`` of :data:`PARTS`; files below ``path``, by ``content`` too; ``limit`` rows a part."""

    parts: tuple[str, ...] = PARTS
    path: str = "/"
    content: bool = False
    limit: int = 10_000
    guest: int | None = None


@dataclass(slots=True)
class _Limited:
    """Takes so many rows of each part, and counts the others."""

    limit: int
    left_out: int = field(default=0)

    def take(self, rows: Iterable[Row]) -> tuple[Row, ...]:
        source = iter(rows)
        taken = tuple(islice(source, self.limit))
        self.left_out += sum(1 for _ in source)
        return taken


def diff_document(image: Image, other: Image, choice: DiffChoice) -> DiffDocument:
    """Compare two images. Raises what finding and opening the guests raises."""
    one, two = image.installation(choice.guest), other.installation(choice.guest)
    troubles = Troubles()
    limited = _Limited(choice.limit)
    services = registry = files = None
    if "services" in choice.parts:
        services = limited.take(compare_services(one, two, troubles))
    if "registry" in choice.parts:
        registry = limited.take(_registry_fact(row) for row in compare_registry(one, two, troubles=troubles))
    if "files" in choice.parts:
        rows = compare_files(
            one.filesystem,
            two.filesystem,
            below=choice.path,
            content=choice.content,
            may_differ=_may_differ(image, other, image.volume(one.volume_index), other.volume(two.volume_index)),
            troubles=troubles,
        )
        files = limited.take(rows)
    identity = compare_identity(one, two)
    return DiffDocument(
        "vhdtool.diff/1",
        image_name(image.path),
        image_name(other.path),
        same=not (identity or services or registry or files),
        identity=identity,
        services=services,
        registry=registry,
        files=files,
        left_out=limited.left_out,
        unread=tuple(UnreadFact(one.what, one.error.code, str(one.error)) for one in troubles.found),
    )


def _may_differ(image: Image, other: Image, one: Volume, two: Volume) -> MayDiffer | None:
    """What two images have in common by standing on the same files, for volumes at one place of their disks."""
    shared = SharedBlocks(image.disk, other.disk)
    if not shared.related or (one.offset, one.scheme) != (two.offset, two.scheme) or one.scheme == "lvm":
        return None
    start = one.offset

    def ranges(offset: int, length: int) -> Iterator[tuple[int, int]]:
        return ((place - start, size) for place, size in shared.may_differ(start + offset, length))

    return ranges


def _registry_fact(row: RegistryDifference) -> RegistryDifferenceFact:
    before = None if row.before is None else registry_data(StoredValue(*row.before))
    after = None if row.after is None else registry_data(StoredValue(*row.after))
    key = "\\".join(part for part in (mount_of(row.hive), row.key) if part)
    return RegistryDifferenceFact(key, row.name, row.action, before, after, row.below)
