"""Our PE reader on the files of a genuine integration services package, unpacked by cabextract."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data_files import data_file
from tests.package.test_pe import CountedSource
from tests.tools import require_tool, run
from vhdtool.package.pe import file_version, resource_string

pytestmark = [pytest.mark.oracle, pytest.mark.data]

CAB = "cab/marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab"
KOREAN = 0x412


def test_the_files_of_a_genuine_package(tmp_path: Path) -> None:
    cab = data_file(CAB)
    run(require_tool("cabextract"), "-q", "-d", str(tmp_path), str(cab))
    files = {path.name: path for path in tmp_path.glob("*/*") if path.suffix in {".dll", ".sys"}}
    assert {"icsvc.dll", "vmbus.sys", "vmicres.dll"} <= files.keys()
    for path in files.values():
        source = CountedSource(path.read_bytes())
        version = file_version(source, path=path.name)
        # the version in the name of every component of this package
        assert version is not None
        assert str(version) == "6.3.9600.18398", path.name
        assert source.read <= 32 << 10, path.name
    names = CountedSource(files["vmicres.dll"].read_bytes())
    assert resource_string(names, 201, path="vmicres.dll") == "Hyper-V Data Exchange Service"
    assert resource_string(names, 801, path="vmicres.dll", languages=(KOREAN,)) == "Hyper-V 게스트 서비스 인터페이스"
    assert names.read <= 64 << 10
