from __future__ import annotations

import ctypes.util

from tests.cli.harness import run
from tests.report.conformity import assert_conforms


def test_parts_of_the_host_are_told():
    result = run("doctor", "--json")
    assert_conforms(result.json, "doctor")
    parts = {part["name"]: part for part in result.json["support"]}
    for name in ("libvhdi-python", "dissect.hypervisor", "dissect.ntfs", "python-registry"):
        assert parts[name]["state"] == "ok"
        assert parts[name]["version"]
    has_library = ctypes.util.find_library("ntfs-3g") is not None
    assert (parts["libntfs-3g"]["state"] == "missing") is not has_library
    assert result.code == (0 if has_library else 6)
    if not has_library:
        assert "libntfs-3g" in parts["libntfs-3g"]["hint"]
