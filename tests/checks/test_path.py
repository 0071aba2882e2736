from __future__ import annotations

import pytest

from vhdtool.checks.node import Node
from vhdtool.checks.path import MISSING, MOST_NODES, NOTHING, Path
from vhdtool.errors import InputError, UsageError
from vhdtool.report.schema import json_schema

DOCUMENT = {
    "image": {"path": "a.vhdx", "parents": []},
    "guests": [
        {"os": {"family": "windows", "version": "6.3.9600"}, "services": [{"name": "a", "on": True}, {"name": "b"}]},
        {"os": {"family": "linux", "version": None}, "services": None},
    ],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("image.path", [("image.path", "a.vhdx")]),
        ("image.absent", [("image.absent", MISSING)]),
        ("image.absent.deeper", [("image.absent", MISSING)]),
        ("image.path.deeper", [("image.path.deeper", MISSING)]),
        ("image.parents[*]", []),
        ("image.parents[0]", [("image.parents[0]", NOTHING)]),
        ("guests[*].os.version", [("guests[0].os.version", "6.3.9600"), ("guests[1].os.version", None)]),
        ("guests[1].os.family", [("guests[1].os.family", "linux")]),
        ("guests[os.family=windows].os.version", [("guests[0].os.version", "6.3.9600")]),
        ("guests[os.family!=windows].os.family", [("guests[1].os.family", "linux")]),
        ("guests[os.family=macos].os.version", [("guests[os.family=macos]", NOTHING)]),
        ("guests[0].services[name=b].name", [("guests[0].services[1].name", "b")]),
        ('guests[0].services[name="b"].name', [("guests[0].services[1].name", "b")]),
        ("guests[0].services[on=true].name", [("guests[0].services[0].name", "a")]),
        ("guests[*].services[name=c]",
         [("guests[0].services[name=c]", NOTHING), ("guests[1].services", MISSING)]),
        ("guests[os.version=null].os.family", [("guests[1].os.family", "linux")]),
        ("image[0]", [("image", MISSING)]),
    ],
)  # fmt: skip
def test_where_a_path_leads(path, found):
    assert [(node.place, node.value) for node in Path(path).nodes(Node(DOCUMENT))] == found


@pytest.mark.parametrize(
    "path",
    ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "a[x=y", "a[x=[y]]", "a b", "a[*]b", "a[1.5]", "$.a",
     "a" * 600, "a[__class__.b=c]d", "é"],
)  # fmt: skip
def test_what_is_no_path(path):
    with pytest.raises(UsageError) as caught:
        Path(path)
    assert caught.value.code == "rule-path"


@pytest.mark.parametrize(
    "path",
    [
        "image.sha256", "guests[*].os.version", "guests[*].linux.kernels[*].modules[name=hv_vmbus].built_in",
        "guests[0].all_services[name=wuauserv].start", "volumes[role=os].state.dirty", "findings[*].code",
        "guests[os.family=windows].integration_services.evidence[*].version",
    ],
)  # fmt: skip
def test_paths_that_inspect_can_have(path):
    Path(path).hold_to(json_schema("inspect"))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("guests[*].os.verison", "version"),
        ("guest[*].os.version", "guests"),
        ("guests.os.version", "[*]"),
        ("image[*].path", "no list"),
        ("guests[os.famliy=windows].os.version", "family"),
        ("image.path.deeper", "none"),
        ("error.code", "There are"),
        ("guests[*].services[*].staus", "status"),
    ],
)
def test_a_slip_in_a_path_is_an_error_with_the_nearest_name(path, named):
    with pytest.raises(UsageError) as caught:
        Path(path).hold_to(json_schema("inspect"))
    assert caught.value.code == "rule-path"
    assert named in f"{caught.value} {caught.value.hint}"


def test_a_path_that_leads_everywhere_is_cut_off():
    wide = {"a": [{"b": [1] * 1000}] * (MOST_NODES // 1000 + 1)}
    with pytest.raises(InputError) as caught:
        list(Path("a[*].b[*]").nodes(Node(wide)))
    assert caught.value.code == "rule-path-too-wide"


def test_names_are_only_looked_up_never_called():
    assert [node.value for node in Path("image.__class__").nodes(Node(DOCUMENT))] == [MISSING]
