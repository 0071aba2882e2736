"""The pools of key-value pairs that the daemon keeps on disk: what host and guest last told each other.

Linux, tools/hv/hv_kvp_daemon.c (struct kvp_record) and include/uapi/linux/hyperv.h (enum hv_kvp_exchg_pool): a file
for each pool, of records of a key and a value, each in a field of fixed length and ended by a zero byte.
"""

from __future__ import annotations

import construct as c

from vhdtool.errors import DamagedError
from vhdtool.guest.linux_model import KvpHost, KvpPool, KvpRecord
from vhdtool.guest.linux_tree import LinuxTree
from vhdtool.guest.source import Trouble, Troubles
from vhdtool.layout import packed

KVP_RECORD = c.Struct("key" / c.Bytes(512), "value" / c.Bytes(2048))
_RECORD = packed(KVP_RECORD)

FOLDERS = ("/var/lib/hyperv", "/var/opt/hyperv")
"""Where the daemon keeps them; the second is that of the first versions of Linux Integration Services."""

POOL_NAMES = ("external", "guest", "auto", "auto-external", "auto-internal")
HOST_POOL = 3
MOST_RECORDS = 1024
LARGEST_POOL = 64 << 20


def read_pools(tree: LinuxTree, troubles: Troubles) -> tuple[KvpPool, ...]:
    """Decode the pools that are there, the first :data:`MOST_RECORDS` pairs of each.

    A pool that does not end with a whole record was cut off while it was written: its whole records are told, and the
    damage goes to ``troubles`` (``kvp-pool-cut-off``).
    """
    found: list[KvpPool] = []
    for folder in FOLDERS:
        for number, name in enumerate(POOL_NAMES):
            path = f"{folder}/.kvp_pool_{number}"
            with troubles.guard(f"the key-value pool {path}"):
                data = tree.read(path, LARGEST_POOL)
                if data is None:
                    continue
                count, rest = divmod(len(data), _RECORD.size)
                if rest:
                    troubles.found.append(Trouble(f"the end of {path}", _cut_off(path, count)))
                records = _RECORD.iter_unpack(data[: min(count, MOST_RECORDS) * _RECORD.size])
                pairs = tuple(KvpRecord(_text(key), _text(value)) for key, value in records)
                found.append(KvpPool(number, name, path, count, pairs))
        if found:
            break
    return tuple(found)


def kvp_host(pools: tuple[KvpPool, ...]) -> KvpHost | None:
    """What the host told of itself; ``None`` where it told nothing that is known."""
    told: dict[str, str] = {}
    for pool in pools:
        if pool.number == HOST_POOL:
            told |= {record.key: record.value for record in pool.records if record.value}
    version = ".".join(told[key] for key in ("HostingSystemOsMajor", "HostingSystemOsMinor") if key in told)
    host = KvpHost(
        host_name=told.get("HostName"),
        physical_host_name=told.get("PhysicalHostNameFullyQualified") or told.get("PhysicalHostName"),
        virtual_machine_name=told.get("VirtualMachineName"),
        virtual_machine_id=told.get("VirtualMachineId"),
        system_version=version or None,
    )
    return None if host == KvpHost(None, None, None, None, None) else host


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", errors="replace")


def _cut_off(path: str, count: int) -> DamagedError:
    return DamagedError(
        "kvp-pool-cut-off", "the last record is cut off", path=path, offset=count * _RECORD.size,
        expected=f"a multiple of {_RECORD.size} bytes",
        hint="The daemon mends it when it is next told a pair; nothing of the whole records is lost.",
    )  # fmt: skip
