"""The synthetic packages that scripts/make_fixtures.py writes: what is said of each, from its bytes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fixtures.packages import PACKAGES, ROOT, write_packages
from scripts.fixtures.signed_package import trusted_root
from tests.package.signing import NOW, authority_roots
from vhdtool.bytesource import BytesSource
from vhdtool.errors import VhdtoolError
from vhdtool.package.cabinet import Cabinet
from vhdtool.package.package import read_package
from vhdtool.package.verification import verify_package


def opened(name: str) -> Cabinet:
    return Cabinet.open(BytesSource(PACKAGES[name].build()), path=name)


@pytest.mark.parametrize("name", PACKAGES)
def test_verified(name: str):
    expected = PACKAGES[name]
    if expected.refused is None:
        found = verify_package(opened(name), trust_roots=authority_roots(), now=NOW)
        assert tuple(layer.state for layer in found.layers) == expected.layers, found.layers
        assert found.trusted == all(state in {"valid", "weak"} for state in expected.layers)
        return
    with pytest.raises(VhdtoolError) as caught:
        verify_package(opened(name), trust_roots=authority_roots(), now=NOW)
    assert caught.value.code == expected.refused


@pytest.mark.parametrize("name", PACKAGES)
def test_shown(name: str):
    expected = PACKAGES[name]
    if expected.shown is None:
        assert read_package(opened(name)).kb == "KB9999999"
        return
    with pytest.raises(VhdtoolError) as caught:
        read_package(opened(name))
    assert caught.value.code == expected.shown


def test_they_are_written_beside_their_root(tmp_path: Path):
    write_packages(tmp_path / "packages")
    written = {path.name: path.read_bytes() for path in (tmp_path / "packages").iterdir()}
    assert written.keys() == {*PACKAGES, ROOT}
    assert written[ROOT] == trusted_root()
    assert written["good.cab"] == PACKAGES["good.cab"].build()
