from __future__ import annotations

from uuid import UUID

import pytest

from vhdtool.knowledge import service_triggers
from vhdtool.knowledge.boot_drivers import boot_drivers
from vhdtool.knowledge.integration import integration_drivers, integration_services
from vhdtool.knowledge.service_triggers import stored_triggers


def test_each_recorded_trigger_is_the_interface_of_its_service() -> None:
    """The bytes from the hive against the GUIDs of the table of services, which have another source."""
    for component in integration_services():
        found = stored_triggers(component.name.upper(), (10, 0, 19041))
        assert found is not None
        (trigger,) = found
        assert str(UUID(bytes_le=trigger.guid)) == component.trigger
        assert (trigger.key, trigger.action, trigger.type) == ("0", 1, 1)


@pytest.mark.parametrize(
    ("windows", "known"),
    [
        ((6, 1, 7601), False),
        ((6, 2, 9200), False),
        ((6, 3, 9600), True),
        ((10, 0, 14393), False),
        ((10, 0, 16299), True),
        ((10, 0, 17763), False),
        ((10, 0, 18363), True),
        ((10, 0, 19045), True),
        ((10, 0, 19046), False),
        ((10, 0, 26100), False),
        (None, False),
    ],
)
def test_only_recorded_versions_are_known(windows: tuple[int, ...] | None, known: bool) -> None:
    assert (stored_triggers("vmicheartbeat", windows) is not None) == known


def test_a_service_that_a_windows_has_not() -> None:
    assert stored_triggers("vmicvmsession", (6, 3, 9600)) is None
    assert stored_triggers("W32Time", (10, 0, 19041)) is None


def test_rows_name_their_sources_and_boot_drivers_occur_once() -> None:
    document = service_triggers._document()
    assert all(len(row["source"]) > 8 for table in ("trigger", "windows") for row in document[table])
    assert all(len(row.source) > 8 for row in boot_drivers())
    names = [row.name.lower() for row in (*boot_drivers(), *integration_drivers())]
    assert len(names) == len(set(names))
