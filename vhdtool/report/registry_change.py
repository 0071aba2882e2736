"""Plans of ``reg add``, ``reg delete`` and ``reg import``: REG.EXE's words as operations on a guest's hives."""

from __future__ import annotations

from contextlib import closing

from vhdtool.disk.device import FileDevice
from vhdtool.errors import UsageError
from vhdtool.guest.control_set import required_control_set
from vhdtool.guest.key_path import parse_key_path
from vhdtool.guest.reg_file import operations_by_hive, read_reg_source
from vhdtool.guest.reg_value import value_data, value_type
from vhdtool.guest.source import WindowsInstallation
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, RegistryOperation, SetValue
from vhdtool.transaction.plan import Plan, joined
from vhdtool.transaction.plan_registry import plan_registry


def plan_add(
    installation: WindowsInstallation,
    key: str,
    name: str | None,
    *,
    kind: str | None = None,
    data: str | None = None,
    separator: str | None = None,
) -> Plan:
    """Plan ``reg add``: without a value's name the key alone. ``kind``, ``data`` and ``separator`` as REG.EXE's.

    Raises :class:`vhdtool.errors.UsageError` ``key-path``, ``reg-type``, ``reg-data``, ``reg-add``, and what reading
    the hive raises.
    """
    hive, inner = _place(installation, key)
    if name is None:
        if kind is not None or data is not None:
            raise UsageError("reg-add", "/t and /d belong to a value", hint="Name it with /v NAME, or /ve.")
        return plan_registry(installation, hive, [CreateKey(inner)])
    number = value_type(kind)
    return plan_registry(
        installation, hive, [SetValue(inner, name, number, value_data(number, data, separator=separator))]
    )


def plan_delete(installation: WindowsInstallation, key: str, name: str | None, *, all_values: bool = False) -> Plan:
    """Plan ``reg delete``: a value, all values of a key, or the key with all below it. Raises as :func:`plan_add`."""
    hive, inner = _place(installation, key)
    operations: list[RegistryOperation] = []
    if all_values:
        stored = installation.hive(hive).key(inner)
        operations += [DeleteValue(inner, value.name) for value in (stored.values() if stored is not None else ())]
    else:
        operations.append(DeleteKey(inner) if name is None else DeleteValue(inner, name))
    return plan_registry(installation, hive, operations)


def plan_import(installation: WindowsInstallation, file: str) -> Plan:
    """Plan a ``.reg`` file. Raises :class:`vhdtool.errors.InputError` ``reg-file-syntax`` and its kin."""
    with closing(FileDevice(file)) as source:
        entries = read_reg_source(source, path=file)
    found = operations_by_hive(installation, entries)
    return joined(plan_registry(installation, hive, operations) for hive, operations in found.items())


def _place(installation: WindowsInstallation, key: str) -> tuple[str, str]:
    """The hive's name and the path from its root."""
    path = parse_key_path(key)
    hive = path.hive or ""
    if not path.needs_control_set:
        return hive, path.inner
    return hive, path.in_control_set(required_control_set(installation.hive(hive)).number)
