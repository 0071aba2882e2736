"""The document of a command that changes a guest, built from its plan and its receipt."""

from __future__ import annotations

from collections.abc import Sequence

from vhdtool.disk.commit import Target, Written
from vhdtool.disk.committing import Committed
from vhdtool.disk.container_opinion import ContainerVerdict
from vhdtool.guest.key_path import mount_of
from vhdtool.guest.reg_value import shown_data
from vhdtool.guest.service_change import ServiceRow
from vhdtool.registry.operation import CreateKey, DeleteKey, DeleteValue, SetValue
from vhdtool.registry.value_data import type_name
from vhdtool.report.document_change import (
    BootReadyFact,
    ChangeDocument,
    FileChangeFact,
    ReceiptFact,
    RegistryAction,
    RegistryChangeFact,
    RegistryData,
)
from vhdtool.report.encode import image_name
from vhdtool.report.opinions import reader_facts
from vhdtool.transaction.plan import FileChange, Plan, RegistryChange, StoredValue
from vhdtool.transaction.transaction import Receipt
from vhdtool.transaction.verify import GuestVerdict


def change_document(
    command: str,
    image: str,
    plan: Plan,
    *,
    target: Target | None = None,
    receipt: Receipt | None = None,
    services: Sequence[ServiceRow] | None = None,
    boot: BootReadyFact | None = None,
) -> ChangeDocument:
    """Build the document of ``vhdtool COMMAND``; without a receipt nothing was written."""
    return ChangeDocument(
        "vhdtool.change/1",
        command,
        image_name(image),
        would_change=plan.changes,
        changed=receipt is not None,
        services=None if services is None else tuple(services),
        boot=boot,
        registry=tuple(_registry_fact(change) for change in plan.registry),
        files=tuple(_file_fact(change) for change in plan.files),
        receipt=None if receipt is None or target is None else receipt_fact(target, receipt),
    )


def receipt_fact(target: Target, receipt: Receipt) -> ReceiptFact:
    """Tell what a transaction wrote and who confirmed it."""
    return _receipt(target, receipt.written, receipt.container, receipt.guest, receipt.seed, receipt.writers)


def commit_fact(target: Target, committed: Committed) -> ReceiptFact:
    """Tell what a commit of whole blocks wrote, of which no guest is known."""
    return _receipt(target, committed.written, committed.before, None, committed.seed, ())


def _receipt(  # noqa: PLR0917  # the parts of a receipt, given by the two above
    target: Target,
    written: Written,
    container: ContainerVerdict,
    guest: GuestVerdict | None,
    seed: int,
    writers: tuple[str, ...],
) -> ReceiptFact:
    return ReceiptFact(
        target=target.kind,
        path=written.path,
        blocks=written.blocks,
        bytes_written=written.bytes_written,
        file_size_before=written.file_size_before,
        file_size=written.file_size,
        changed_bytes=container.changed_bytes,
        sampled_bytes=container.sampled_bytes,
        unconfirmed=container.unconfirmed_bytes,
        seed=seed,
        confirmed_by=tuple(reader_facts(container, guest)),
        writers=writers,
        undo=written.undo,
        notes=written.notes,
    )


def _file_fact(change: FileChange) -> FileChangeFact:
    return FileChangeFact(
        change.volume,
        change.action,
        change.path,
        change.source,
        change.size_before,
        change.size,
        change.sha256,
        change.changes,
    )


def _registry_fact(change: RegistryChange) -> RegistryChangeFact:
    operation = change.operation
    key = "\\".join(part for part in (mount_of(change.hive), operation.key) if part)
    match operation:
        case SetValue(name=name):
            after = registry_data(StoredValue(operation.type, operation.data))
            return _fact(change, "set-value", key, name, after)
        case DeleteValue(name=name):
            return _fact(change, "delete-value", key, name, None)
        case CreateKey():
            return _fact(change, "create-key", key, None, None)
        case DeleteKey():
            return _fact(change, "delete-key", key, None, None)


def _fact(
    change: RegistryChange, action: RegistryAction, key: str, name: str | None, after: RegistryData | None
) -> RegistryChangeFact:
    before = None if change.before is None else registry_data(change.before)
    return RegistryChangeFact(
        change.volume, change.root, action, key, name, before, after, change.below, change.changes
    )


def registry_data(value: StoredValue) -> RegistryData:
    """Show a stored value as ``reg query`` does."""
    return RegistryData(type_name(value.type), shown_data(value.type, value.data), len(value.data))
