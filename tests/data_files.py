"""The collection of real files that tests read where it is there: never part of the project.

``VHDTOOL_DATA`` names it; else ``../shared/data`` beside the checkout is tried. A test that needs a file which is
not there skips, by the file's name.
"""

from __future__ import annotations

import atexit
import gzip
import lzma
import os
import shutil
import tempfile
from pathlib import Path

import pytest

_cache: Path | None = None


def data_dir() -> Path | None:
    """The folder of the collection, or None."""
    named = os.environ.get("VHDTOOL_DATA")
    place = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return place if (place / "MANIFEST.tsv").is_file() else None


def data_file(name: str) -> Path:
    """The path of a file of the collection, decompressed where it is kept compressed; skips where it is absent."""
    folder = data_dir()
    if folder is None or not (folder / name).is_file():
        pytest.skip(f"real file {name} is not here (VHDTOOL_DATA)")
    source = folder / name
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(source.suffix)
    if opener is None:
        return source
    target = _cache_dir() / name.removesuffix(source.suffix)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        with opener(source, "rb") as packed, partial.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        partial.rename(target)
    return target


def _cache_dir() -> Path:
    global _cache  # noqa: PLW0603  # one cache a process, removed when it ends
    if _cache is None:
        _cache = Path(tempfile.mkdtemp(prefix="vhdtool-data-"))
        atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    return _cache
