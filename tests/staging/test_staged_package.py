"""Packages on their way into a guest: names there, and what a verification comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fixtures.signed_package import Signing, signed_package, trusted_root
from scripts.fixtures.stored_cabinet import stored_cabinet
from scripts.fixtures.test_authority import stranger_root
from tests.data_files import data_file
from tests.staging.packages import package_files, write_package
from vhdtool.errors import UnsupportedError, UsageError
from vhdtool.package.trust_roots import read_trust_roots
from vhdtool.staging.stage_record import _SAFE_PATH
from vhdtool.staging.staged_package import guest_names, open_packages

ROOTS = read_trust_roots(trusted_root())


def trust(path: Path, content: bytes, *, roots: bytes | None = None) -> str:
    path.write_bytes(content)
    with open_packages([str(path)], ROOTS if roots is None else read_trust_roots(roots)) as (one,):
        return one.trust


def test_trust(tmp_path):
    cab, files = tmp_path / "a.cab", package_files()
    assert trust(cab, signed_package(files)) == "trusted"
    assert trust(cab, signed_package(files), roots=stranger_root().certificate) == "untrusted"
    assert trust(cab, stored_cabinet(files)) == "untrusted"
    late = Signing(stamps=())  # nothing tells when it was signed, and the signer's certificate has expired
    assert trust(cab, signed_package(package_files(how=late), late)) == "untrusted"


def test_a_catalog_that_lists_other_files_is_tampering_where_it_is_trusted(tmp_path):
    files = package_files()
    name = next(name for name in files if name.endswith(".manifest"))
    files[name] = files[name] + b"\r\n"
    assert trust(tmp_path / "a.cab", signed_package(files)) == "tampered"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Windows6.2-HyperVIntegrationServices-x64.cab", "1-Windows6.2-HyperVIntegrationServices-x64.cab"),
        ("a b%PATH%&^!.CAB", "1-a-b-PATH.cab"),
        ("größe.cab", "1-gr-e.cab"),
        (".cab", "1-package.cab"),
        ("x" * 200 + ".cab", "1-" + "x" * 64 + ".cab"),
    ],
)
def test_names_in_the_guest_are_plain(tmp_path, name, wanted):
    path = write_package(tmp_path / name)
    with open_packages([str(path)], ROOTS) as packages:
        (found,) = guest_names(packages)
    assert found == wanted
    assert _SAFE_PATH.fullmatch(found)


def test_the_same_content_twice_is_a_mistake(tmp_path):
    first, second = write_package(tmp_path / "a.cab"), write_package(tmp_path / "b.cab")
    with pytest.raises(UsageError) as caught, open_packages([str(first), str(second)], ROOTS):
        pass
    assert caught.value.code == "same-package-twice"


def test_an_msu_gives_the_packages_in_it(tmp_path):
    inner = signed_package(package_files())
    path = tmp_path / "update.msu"
    path.write_bytes(stored_cabinet({"WSUSSCAN.cab": b"MSCF", "inner.cab": inner, "update.xml": b"<x/>"}))
    with open_packages([str(path)], ROOTS) as packages:
        (one,) = packages
        assert one.source == f"{path}!inner.cab"
        assert one.trust == "trusted"
        assert one.content.read_at(0, one.content.size) == inner
        assert guest_names(packages) == ("1-inner.cab",)


def test_an_msu_without_a_package(tmp_path):
    path = tmp_path / "update.msu"
    path.write_bytes(stored_cabinet({"inner.cab": stored_cabinet({"x": b"y"})}))
    with pytest.raises(UnsupportedError) as caught, open_packages([str(path)]):
        pass
    assert caught.value.code == "not-a-package"


@pytest.mark.data
@pytest.mark.parametrize("name", ["Windows6.1-KB2646060-v3-x64.msu", "Windows8.1-KB3024680-v2-x64.msu"])
def test_delta_packages_are_refused_by_name(name):
    path = data_file(f"cab/stdin82__htfx/{name}")
    with pytest.raises(UnsupportedError) as caught, open_packages([str(path)]):
        pass
    assert caught.value.code == "package-delta"
