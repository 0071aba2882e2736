from __future__ import annotations

import pytest

from tests.data_files import data_file
from tests.guest.guests import WINDOWS_7, WINDOWS_2012_R2, Keys, guest, hive
from tests.guest.test_service_change import driver
from tests.guest.test_services import HEARTBEAT_TRIGGER, SERVICES, override, service, trigger
from tests.package.build_pe import build_pe
from vhdtool.errors import DamagedError
from vhdtool.guest.difference import (
    FactDifference,
    RegistryDifference,
    ServiceDifference,
    compare_identity,
    compare_registry,
    compare_services,
)
from vhdtool.guest.source import Troubles

BASE: Keys = {SERVICES: {}, **service("vmicvss", 3), **service("vmicheartbeat", 3), **driver("vmbus", 0)}


def registry(before: Keys, after: Keys) -> list[RegistryDifference]:
    return list(compare_registry(guest(before), guest(after), hives=["SYSTEM"]))


def test_guests_that_are_alike() -> None:
    one, other = guest(BASE), guest(BASE)
    assert compare_identity(one, other) == ()
    assert compare_services(one, other) == ()
    assert list(compare_registry(one, other)) == []


def test_identity() -> None:
    found = {fact.name: (fact.before, fact.after) for fact in compare_identity(guest(), guest(software=WINDOWS_7))}
    assert found["version"] == ("6.3.9600", "6.1.7601")
    assert found["edition"] == ("ServerStandard", "Enterprise")
    assert "integration_services" not in found


def test_services() -> None:
    after: Keys = {
        SERVICES: {},
        **service("vmicvss", 2, DelayedAutostart=1),
        **driver("vmbus", 0),
        **override("vmbus", 3),
        **service("W32Time", 3),
        **trigger("vmicheartbeat", HEARTBEAT_TRIGGER),
    }
    found = compare_services(guest(BASE), guest(after))
    assert [(one.name, one.action) for one in found] == [
        ("vmbus", "changed"),
        ("vmicheartbeat", "removed"),
        ("vmicvss", "changed"),
        ("W32Time", "added"),
    ]
    assert found[0].facts == (FactDifference("override", None, 3), FactDifference("effective", "boot", "manual"))
    assert found[2] == ServiceDifference(
        "vmicvss",
        "Hyper-V Volume Shadow Copy Requestor",
        "changed",
        (
            FactDifference("start", "manual", "auto"),
            FactDifference("delayed", False, True),
            FactDifference("effective", "manual", "auto"),
        ),
    )
    assert FactDifference("start", None, "manual") in found[3].facts


def test_the_version_of_a_drivers_file() -> None:
    path = "Windows/System32/drivers/vmbus.sys"
    old, new = (build_pe((6, 3, 9600, revision)) for revision in (16384, 18692))
    (found,) = compare_services(guest(BASE, files={path: old}), guest(BASE, files={path: new}))
    assert found.facts == (FactDifference("version", "6.3.9600.16384", "6.3.9600.18692"),)
    troubles = Troubles()
    broken = guest(BASE, files={path: DamagedError("bad", "bad")})
    (found,) = compare_services(guest(BASE, files={path: old}), broken, troubles)
    assert found.facts == (FactDifference("version", "6.3.9600.16384", None),)
    assert [trouble.error.code for trouble in troubles.found] == ["bad"]


def test_values() -> None:
    before: Keys = {"A": {"Same": 1, "Changed": 1, "Gone": b"x", "Type": "text"}}
    after: Keys = {"A": {"Same": 1, "changed": 2, "New": "n", "Type": b"text"}}
    text = "text\0".encode("utf-16-le")
    assert registry(before, after) == [
        RegistryDifference("SYSTEM", "A", "Changed", "changed", (4, b"\1\0\0\0"), (4, b"\2\0\0\0")),
        RegistryDifference("SYSTEM", "A", "Gone", "removed", (3, b"x"), None),
        RegistryDifference("SYSTEM", "A", "New", "added", None, (1, "n\0".encode("utf-16-le"))),
        RegistryDifference("SYSTEM", "A", "Type", "changed", (1, text), (3, b"text")),
    ]


def test_keys_are_told_once_with_what_is_below() -> None:
    before: Keys = {r"A\B\C": {"x": 1, "y": 2}, r"A\B": {"z": 3}, "D": {}}
    after: Keys = {"A": {}, "D": {}, "E": {"v": 1}}
    assert registry(before, after) == [
        RegistryDifference("SYSTEM", r"A\B", None, "removed", None, None, 4),
        RegistryDifference("SYSTEM", "E", None, "added", None, None, 1),
    ]


def test_the_order_is_that_of_the_paths() -> None:
    names = [r"a\b", r"a\c\d", "b", "C", "d"]
    before: Keys = {name: {"v": 1} for name in names}
    after: Keys = {name: {"v": 2} for name in names}
    assert [one.key for one in registry(before, after)] == names


def test_a_hive_that_only_one_has() -> None:
    one, other = guest(BASE), guest(BASE)
    assert list(compare_registry(one, other, hives=["SAM"])) == []
    with_sam = guest(BASE, files={"Windows/System32/config/SAM": hive({"SAM": {"x": 1}})})
    assert list(compare_registry(with_sam, other, hives=["SAM"])) == [
        RegistryDifference("SAM", "", None, "removed", None, None, 2)
    ]


def test_a_damaged_hive_is_compared_as_far_as_it_goes() -> None:
    good = hive({"Select": {"Current": 1}, r"A\B": {"v": 1}, "C": {"w": 1}})
    place = good.index(b"vk\1\0\4\0\0\x80")  # a value with a name of one letter
    bad = good[:place] + b"xx" + good[place + 2 :]
    troubles = Troubles()
    found = list(compare_registry(guest(good), guest(bad), ["SYSTEM"], troubles))
    assert len(found) == 1
    assert (found[0].action, found[0].after) == ("removed", None)
    assert [trouble.error.code for trouble in troubles.found] == ["hive-value"]


@pytest.mark.data
def test_a_real_hive_with_one_byte_changed() -> None:
    original = data_file("hives/fox-it__dissect.regf/SYSTEM.gz").read_bytes()
    wanted = "wvmbus.inf".encode("utf-16-le")
    place = original.index(wanted)
    changed = original[:place] + b"W" + original[place + 1 :]
    found = list(compare_registry(guest(original), guest(changed), ["SYSTEM"]))
    assert len(found) == 1
    assert found[0].action == "changed"
    assert found[0].before is not None
    assert found[0].after is not None
    assert found[0].before[1].replace(wanted, b"W" + wanted[1:], 1) == found[0].after[1]


def test_software_is_compared_too() -> None:
    found = list(compare_registry(guest(BASE), guest(BASE, WINDOWS_7)))
    assert {one.hive for one in found} == {"SOFTWARE"}
    assert {one.name for one in found} == {*WINDOWS_2012_R2[r"Microsoft\Windows NT\CurrentVersion"]}
