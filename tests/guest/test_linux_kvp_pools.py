from __future__ import annotations

from tests.guest.linux_files import kvp_record
from tests.guest.linux_filesystem import tree
from vhdtool.guest.linux_kvp_pools import MOST_RECORDS, kvp_host, read_pools
from vhdtool.guest.linux_model import KvpHost, KvpRecord
from vhdtool.guest.source import Troubles

POOL = "var/lib/hyperv/.kvp_pool_"


def test_pools_are_decoded_by_their_numbers():
    files = {
        f"{POOL}0": kvp_record("a", "b") + kvp_record("c", ""),
        f"{POOL}1": b"",
        f"{POOL}3": kvp_record("HostName", "HV01") + kvp_record("VirtualMachineName", "wëb"),
    }
    troubles = Troubles()
    pools = read_pools(tree(files), troubles)
    assert [(pool.number, pool.name, pool.count) for pool in pools] == [
        (0, "external", 2), (1, "guest", 0), (3, "auto-external", 2),
    ]  # fmt: skip
    assert pools[0].records == (KvpRecord("a", "b"), KvpRecord("c", ""))
    assert pools[2].records[1].value == "wëb"
    assert pools[0].path == "/var/lib/hyperv/.kvp_pool_0"
    assert troubles.found == []


def test_what_the_host_told_of_itself():
    pairs = {
        "HostName": "hv01.example", "PhysicalHostName": "HV01", "PhysicalHostNameFullyQualified": "hv01.example",
        "VirtualMachineName": "web", "VirtualMachineId": "A-B", "HostingSystemOsMajor": "10",
        "HostingSystemOsMinor": "0",
    }  # fmt: skip
    data = b"".join(kvp_record(*pair) for pair in pairs.items())
    assert kvp_host(read_pools(tree({f"{POOL}3": data}), Troubles())) == KvpHost(
        "hv01.example", "hv01.example", "web", "A-B", "10.0"
    )
    assert kvp_host(read_pools(tree({f"{POOL}0": data}), Troubles())) is None
    assert kvp_host(read_pools(tree({f"{POOL}3": kvp_record("Other", "x")}), Troubles())) is None


def test_fields_without_an_end_and_bytes_that_are_no_text():
    data = b"k" * 512 + b"\xff\xfev" + bytes(2045)
    (pool,) = read_pools(tree({f"{POOL}4": data}), Troubles())
    assert pool.records[0].key == "k" * 512
    assert pool.records[0].value == "��v"


def test_a_pool_that_is_cut_off_and_one_that_is_very_long():
    troubles = Troubles()
    pools = read_pools(tree({f"{POOL}0": kvp_record("a", "b") + b"half"}), troubles)
    assert pools[0].count == 1
    assert [trouble.error.code for trouble in troubles.found] == ["kvp-pool-cut-off"]
    assert troubles.found[0].error.offset == 2560
    (pool,) = read_pools(tree({f"{POOL}1": kvp_record("a", "b") * (MOST_RECORDS + 5)}), Troubles())
    assert (pool.count, len(pool.records)) == (MOST_RECORDS + 5, MOST_RECORDS)


def test_a_pool_that_is_larger_than_any_is_told(monkeypatch):
    monkeypatch.setattr("vhdtool.guest.linux_kvp_pools.LARGEST_POOL", 2560)
    troubles = Troubles()
    assert read_pools(tree({f"{POOL}0": kvp_record("a", "b") * 2, f"{POOL}1": b""}), troubles)[0].number == 1
    assert [trouble.error.code for trouble in troubles.found] == ["guest-file-too-large"]


def test_the_old_place():
    assert read_pools(tree({"var/opt/hyperv/.kvp_pool_1": kvp_record("a", "b")}), Troubles())[0].count == 1
