"""How much a package may say of itself: what bounds the time and the memory of reading its manifests."""

from __future__ import annotations

from collections.abc import Iterable

from vhdtool.errors import RefusedError

MAX_DESCRIBED = 256 << 20
"""Most bytes of manifests and catalogs together; those of the largest packages with whole files take some 100 MiB."""
MAX_INFS = 64 << 20
"""Most bytes of driver files together."""
MAX_MARKS = 4_000_000
"""Most elements of all manifests together, and their ends: each costs some microseconds."""
MAX_NAMED = 200_000
"""Most files, updates and parents that the manifests of a package name."""


class DescriptionLimits:
    """Counts what the manifests of one package say, and refuses where it is more than any package says."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._marks = 0
        self._named = 0

    def take_sizes(self, manifests: Iterable[int], infs: Iterable[int] = ()) -> None:
        """Take the sizes of files, in bytes, before they are read.

        Raises:
            RefusedError: ``package-too-large``, as all of these methods.
        """
        self._hold("its manifests are too long together", sum(manifests), MAX_DESCRIBED)
        self._hold("its driver files are too long together", sum(infs), MAX_INFS)

    def take_manifest(self, data: bytes) -> None:
        """Take a manifest, before it is parsed."""
        self._marks += data.count(b"<")
        self._hold("its manifests have too many elements together", self._marks, MAX_MARKS)

    def take_named(self, count: int) -> None:
        """Take the files, updates and parents that a manifest names."""
        self._named += count
        self._hold("its manifests name too much", self._named, MAX_NAMED)

    def _hold(self, what: str, found: int, most: int) -> None:
        if found > most:
            raise RefusedError(
                "package-too-large",
                f"the package is like no other: {what}",
                path=self._path,
                expected=f"at most {most}",
                found=found,
                hint="Do not use this package, or install it in the running guest.",
            )
