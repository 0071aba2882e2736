"""Plans for services, carried out on a real hive by the editor and read again by python-registry."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable

import pytest
from Registry import Registry

from tests.data_files import data_file
from tests.guest.guests import Keys, guest
from vhdtool.guest.boot_ready import plan_boot_ready
from vhdtool.guest.service_change import WORDS, plan_service_starts
from vhdtool.guest.source import WindowsInstallation
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.operation import DeleteKey, RegistryOperation

pytestmark = pytest.mark.data

SYSTEM = "hives/fox-it__dissect.regf/SYSTEM.gz"
SERVICES = r"ControlSet001\Services"
SOFTWARE: Keys = {
    r"Microsoft\Windows NT\CurrentVersion": {
        "CurrentBuildNumber": "19041",
        "CurrentMajorVersionNumber": 10,
        "CurrentMinorVersionNumber": 0,
    }
}
STARTS = ["boot", "system", "auto", "manual", "disabled"]


def installed(system: bytes) -> WindowsInstallation:
    names = ["vmbus", "storvsc", "vmstorfl", "bttflt", "vpci", "acpi", "pci", "intelide", "atapi", "partmgr", "disk"]
    files = [f"Windows/System32/drivers/{name}.sys" for name in [*names, "volmgr", "mountmgr", "volume"]]
    return guest(system, SOFTWARE, dict.fromkeys(files, b""))


def edited(installation: WindowsInstallation, operations: Iterable[RegistryOperation]) -> bytes:
    editor = HiveEditor(installation.hive("SYSTEM"))
    for operation in operations:
        assert editor.apply(operation)  # a plan holds nothing that is so already
    image = editor.finish().image
    return image.read_at(0, image.size)


def python_registry(system: bytes) -> dict[str, tuple[int | None, int | None, int | None, int]]:
    """Start, DelayedAutostart, override 0 and the number of triggers, by service."""

    def value(key: Registry.RegistryKey, name: str) -> int | None:
        return next((found.value() for found in key.values() if found.name().lower() == name), None)

    def below(key: Registry.RegistryKey, name: str) -> list[Registry.RegistryKey]:
        return [found for found in key.subkeys() if found.name() == name]

    facts = {}
    for key in Registry.Registry(io.BytesIO(system)).open(SERVICES).subkeys():
        override = next((value(found, "0") for found in below(key, "StartOverride")), None)
        triggers = sum(len(found.subkeys()) for found in below(key, "TriggerInfo"))
        facts[key.name()] = value(key, "start"), value(key, "delayedautostart"), override, triggers
    return facts


def test_random_starts_come_out_as_the_plan_says() -> None:
    chance = random.Random(20)
    system = data_file(SYSTEM).read_bytes()
    names = [name for name, (start, *_) in python_registry(system).items() if start is not None]
    for _ in range(5):
        installation = installed(system)
        before = python_registry(system)
        chosen = chance.sample(names, 12)
        kinds = {row.name: row.kind for row in plan_service_starts(
            installation, [(name, "disabled") for name in chosen], force=True).rows}  # fmt: skip
        words = {name: chance.choice([word for word in WORDS if _fits(word, kinds[name])]) for name in chosen}
        plan = plan_service_starts(installation, list(words.items()), force=True)
        system = edited(installation, plan.operations)
        after = python_registry(system)
        for row in plan.rows:
            start, delayed, override, triggers = after[row.name]
            assert row.after.start == STARTS[start or 0] == WORDS[words[row.name]]
            assert (row.after.override, row.after.delayed) == (override, bool(delayed))
            assert override in {None, start}
            assert triggers == before[row.name][3]
            assert row.changes == (before[row.name] != after[row.name])
        assert {name: facts for name, facts in after.items() if name not in words} == {
            name: facts for name, facts in before.items() if name not in words
        }
        assert plan_service_starts(installed(system), list(words.items()), force=True).operations == ()


def _fits(word: str, kind: str) -> bool:
    return word not in ({"boot", "system"} if kind == "service" else {"delayed"})


def test_lost_triggers_come_back() -> None:
    installation = installed(data_file(SYSTEM).read_bytes())
    place = rf"{SERVICES}\vmickvpexchange\TriggerInfo"
    without = edited(installation, [DeleteKey(place)])
    plan = plan_service_starts(installed(without), [("vmickvpexchange", "manual")], restore_triggers=True)
    restored = edited(installed(without), plan.operations)

    def trigger(system: bytes) -> dict[str, tuple[int, object]]:
        key = Registry.Registry(io.BytesIO(system)).open(rf"{place}\0")
        return {value.name(): (value.value_type(), value.raw_data()) for value in key.values()}

    assert trigger(restored) == trigger(data_file(SYSTEM).read_bytes())


def test_the_boot_drivers_are_put_right() -> None:
    installation = installed(data_file(SYSTEM).read_bytes())
    plan = plan_boot_ready(installation)
    assert not plan.ready
    system = edited(installation, plan.operations)
    facts = python_registry(system)
    for name in ("vmbus", "storvsc", "storflt", "bttflt", "vpci"):
        assert facts[name][0] == 0
        assert facts[name][2] is None
    again = plan_boot_ready(installed(system))
    assert again.ready
    assert again.operations == ()
