from __future__ import annotations

import pytest

from tests.registry.build_hive import PAGE, hbins_size, sealed
from tests.registry.editing import HIVE, START, edited, editor, key_of, refused
from tests.registry.hive_faults import Bytes
from vhdtool.errors import DamagedError, OutputError, RefusedError, UsageError
from vhdtool.registry import edit_limits

# --- refusals --------------------------------------------------------------------------------------------------------


def test_names_that_windows_would_not_take() -> None:
    refused(lambda one: one.create_key("k" * 256), UsageError, "key-name")
    refused(lambda one: one.create_key("\U00010400" * 128), UsageError, "key-name")
    refused(lambda one: one.set_value("Key\\" + "k" * 256, "v", 4, START), UsageError, "key-name")
    refused(lambda one: one.set_value("Key", "v" * 16_384, 4, START), UsageError, "value-name")
    refused(lambda one: one.set_value("Key", "v", 1 << 32, START), UsageError, "value-data")
    refused(lambda one: one.set_value("Key", "v", -1, START), UsageError, "value-data")
    refused(lambda one: one.delete_key(""), UsageError, "delete-root")
    refused(lambda one: one.delete_key("\\"), UsageError, "delete-root")
    edited(lambda one: one.set_value("Key" + "\\" + "k" * 255, "v" * 16_383, 4, START))
    edited(lambda one: one.set_value("ж" * 255, "ж" * 16_383, 4, START))


def test_data_that_no_list_of_segments_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_limits, "DATA_LIMIT", 100_000)
    refused(lambda one: one.set_value("Key", "v", 3, bytes(100_001)), UsageError, "value-data")


FLAGS, VALUE_FLAGS = 4 + 2, 4 + 16


@pytest.mark.parametrize("flag", [0x10, 0x40])
def test_links_and_stand_ins_are_refused(flag: int) -> None:
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp").offset + FLAGS] |= flag
    for change in (
        lambda one: one.set_value(r"ControlSet001\Services\vmickvp", "Start", 4, START),
        lambda one: one.delete_value(r"ControlSet001\Services\vmickvp", "Start"),
        lambda one: one.create_key(r"ControlSet001\Services\vmickvp\New"),
        lambda one: one.delete_key(r"ControlSet001\Services\vmickvp"),
    ):
        refused(change, RefusedError, "hive-key-special", bytes(raw))
    if flag == 0x10:
        below = r"ControlSet001\Services\vmickvp\Parameters\New"
        refused(lambda one: one.create_key(below), RefusedError, "hive-key-special", bytes(raw))


@pytest.mark.parametrize("flag", [0x02, 0x08, 0x40])
def test_a_tree_with_a_protected_key_is_not_deleted(flag: int) -> None:
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp\Parameters").offset + FLAGS] |= flag
    refused(lambda one: one.delete_key("ControlSet001"), RefusedError, "hive-key-special", bytes(raw))
    refused(lambda one: one.delete_key(r"ControlSet001\Services"), RefusedError, "hive-key-special", bytes(raw))


def test_a_link_goes_with_the_tree_that_it_is_in() -> None:
    """The link itself, not what it leads to."""
    raw = bytearray(HIVE)
    raw[key_of(HIVE, r"ControlSet001\Services\vmickvp\Parameters").offset + FLAGS] |= 0x10
    edited(lambda one: one.delete_key("ControlSet001"), bytes(raw))


def test_layers_are_refused() -> None:
    raw = bytearray(HIVE)
    value = key_of(HIVE, r"ControlSet001\Services\vmbus").value("Start")
    assert value is not None
    raw[value.offset + VALUE_FLAGS] |= 2
    service = r"ControlSet001\Services\vmbus"
    refused(lambda one: one.set_value(service, "Type", 4, START), RefusedError, "hive-key-special", bytes(raw))
    refused(lambda one: one.delete_value(service, "Start"), RefusedError, "hive-key-special", bytes(raw))


@pytest.mark.parametrize("minor", [2, 6])
def test_versions_that_are_only_read(minor: int) -> None:
    with pytest.raises(RefusedError) as caught:
        editor(sealed(HIVE, minor=minor))
    assert caught.value.code == "hive-version-not-written"


@pytest.mark.parametrize(
    "raw", [sealed(HIVE, primary=9, secondary=8), HIVE[:508] + b"\0\0\0\0" + HIVE[512:]], ids=["sequence", "checksum"]
)
def test_a_dirty_hive_is_refused(raw: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        editor(raw)
    assert (caught.value.code, caught.value.exit_code) == ("hive-dirty", 4)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (HIVE[:-PAGE], "hive-truncated"),
        (sealed(HIVE, hbins=hbins_size(HIVE) + PAGE), "hive-truncated"),
        (sealed(HIVE, hbins=hbins_size(HIVE) - 512), "hive-bins-size"),
        (HIVE[:PAGE] + b"nibh" + HIVE[PAGE + 4 :], "hive-bin"),
    ],
)
def test_a_hive_that_is_cut_off_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(DamagedError) as caught:
        editor(raw)
    assert caught.value.code == code


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_key_is_refused_by_name_and_others_are_edited() -> None:
    at = Bytes()
    at.put(at.data("Values") + 60, 2)  # its longest name is longer than it says
    error = refused(lambda one: one.set_value("Values", "n", 4, START), DamagedError, "hive-max-lengths", bytes(at.raw))
    assert error.offset == at.data("Values") - 4
    started = editor(bytes(at.raw))
    assert started.set_value("Select", "Current", 4, START)
    assert started.create_key(r"Values\Below")  # its values are not touched
    started.finish()


def test_a_list_that_is_out_of_order_is_refused() -> None:
    at = Bytes()
    listed = at.cell(at.data("Many") + 28) + 4
    entries = at.raw[listed : listed + 16]
    at.raw[listed : listed + 16] = entries[8:] + entries[:8]
    raw = bytes(at.raw)
    refused(lambda one: one.create_key(r"Many\New"), DamagedError, "hive-subkey-order", raw)
    refused(lambda one: one.delete_key(r"Many\Key30"), DamagedError, "hive-subkey-order", raw)
    refused(lambda one: one.delete_key("Many"), DamagedError, "hive-subkey-order", raw)
    assert editor(raw).set_value(r"Many\Key30", "n", 4, START)


def test_a_bin_whose_cells_do_not_fill_it_is_refused() -> None:
    """Windows does not load such a hive; writing into it would not make it better."""
    at = Bytes()
    at.put(at.data("Select") - 4, at.get(at.data("Select") - 4, "<i") - 8, "<i")
    started = editor(bytes(at.raw))
    started.set_value("Select", "Current", 4, START)
    with pytest.raises(DamagedError) as caught:
        started.finish()
    assert caught.value.code in ("hive-cell-size", "hive-cell-out-of-range")


def test_a_change_that_fails_in_the_middle_leaves_no_hive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdtool.registry.cell_allocator.HBINS_LIMIT", hbins_size(HIVE))
    started = editor()
    with pytest.raises(OutputError) as caught:
        started.set_value("Key", "v", 3, bytes(100_000))
    assert caught.value.code == "hive-full"
    for again in (started.finish, lambda: started.create_key("A")):
        with pytest.raises(OutputError) as caught:
            again()
        assert caught.value.code == "hive-edit-broken"


def test_a_finished_editor_takes_no_more() -> None:
    started = editor()
    started.create_key("A")
    assert started.finish() is started.finish()
    with pytest.raises(ValueError, match="finished"):
        started.create_key("B")
