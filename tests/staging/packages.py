"""Packages to stage: synthetic ones, signed by the test authority, for the guests of the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.fixtures.signed_package import Signing, catalog, signed_package, trusted_root
from tests.package.package_texts import MICROSOFT, V3, driver_update, identity, inf, manifest

INTEGRATION = "Microsoft-Hyper-V-Integration-Services-Package-2"
NEWER = "6.3.9600.20000"
"""Above the 6.3.9600.18692 of the fixtures' guest."""


def parents(*named: tuple[str, str], rules: str = "") -> str:
    """One parent with alternatives, each by name and version."""
    listed = "".join(identity(name, version) for name, version in named)
    return f'<parent integrate="delegate" {rules}>{listed}</parent>'


FITS = parents((INTEGRATION, "6.3.0.0"))
"""The fixtures' guest has this package, in a later version."""


def package_files(
    version: str = NEWER,
    *,
    name: str = INTEGRATION,
    kb: str = "KB9999999",
    parent: str = FITS,
    architecture: str = "amd64",
    infs: Sequence[str] = ("wvmbus.inf", "wstorvsc.inf"),
    how: Signing | None = None,
    more: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The files of an integration services package that brings drivers of its own version."""
    updates = "".join(driver_update(one) for one in infs)
    update_mum = (
        f'<?xml version="1.0" encoding="utf-8"?><assembly {V3} manifestVersion="1.0" description="Fix for {kb}">'
        f"{identity(name, version, architecture)}"
        f'<package identifier="{kb}" releaseType="Update" restart="required">{parent}{updates}</package></assembly>'
    ).encode()
    described: dict[str, bytes] = {"update.mum": update_mum}
    payload: dict[str, bytes] = {}
    for one in infs:
        stem = f"{architecture}_{one}_{MICROSOFT}_{version}_none_0123456789abcdef"
        content = {one: inf(one.removesuffix(".inf"), f"06/21/2006,{version}")}
        described[f"{stem}.manifest"] = manifest(one, content)
        payload |= {f"{stem}\\{file}": data for file, data in content.items()}
    return {**described, "update.cat": catalog(list(described.values()), how), **payload, **(more or {})}


def write_package(path: Path, version: str = NEWER, *, how: Signing | None = None, **facts: object) -> Path:
    """Write a signed package; return its path."""
    path.write_bytes(signed_package(package_files(version, how=how, **facts), how))  # type: ignore[arg-type]
    return path


def write_root(folder: Path) -> Path:
    """Write the test authority's root; return its path."""
    path = folder / "test-root.der"
    path.write_bytes(trusted_root())
    return path
