from __future__ import annotations

import tomllib
import uuid
from importlib import resources

from vhdtool.volume.partition_types import UNKNOWN_TYPE, gpt_type, mbr_type

ROLES = {"esp", "msr", "boot", "os", "recovery", "data", "swap", "unknown"}


def test_known_types() -> None:
    assert gpt_type("c12a7328-f81f-11d2-ba4b-00a0c93ec93b").role == "esp"
    assert gpt_type("af9b60a0-1431-4f62-bc68-3311714a69ad").container == "ldm"
    assert gpt_type("e75caf8f-f680-4cee-afa3-b001e56efc2d").container == "storage-spaces"
    assert mbr_type(0x27).role == "recovery"
    assert mbr_type(0x42).container == "ldm"
    assert mbr_type(0xAA) is UNKNOWN_TYPE
    assert gpt_type("00000000-0000-0000-0000-000000000001") is UNKNOWN_TYPE


def test_every_fact_is_complete_and_once() -> None:
    text = resources.files("vhdtool.knowledge").joinpath("partition_types.toml").read_text(encoding="utf-8")
    facts = tomllib.loads(text)
    for rows in (facts["gpt"], facts["mbr"]):
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            assert row["role"] in ROLES
            assert row["source"]
            assert row["name"]
    assert all(str(uuid.UUID(row["id"])) == row["id"] for row in facts["gpt"])
