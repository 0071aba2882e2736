from __future__ import annotations

from datetime import UTC, datetime

from vhdtool.knowledge.trust_roots import pinned_roots, sha1_accepted_before


def test_every_row_is_complete():
    for root in pinned_roots():
        assert len(root.sha256) == 32
        assert root.usages <= {"code-signing", "time-stamping"}
        assert root.usages
        assert root.source
    assert len({root.sha256 for root in pinned_roots()}) == len(pinned_roots())


def test_sha1_counts_until_2017():
    assert sha1_accepted_before() == datetime(2017, 1, 1, tzinfo=UTC)
