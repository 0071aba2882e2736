from __future__ import annotations

import random
import tracemalloc

from vhdtool.disk.vhd_space import PAGE_LIMIT, VhdBlockSpace


def test_overlaps_are_found_as_by_hand():
    source = random.Random(7)
    for _ in range(300):
        stored_size, last_size = 512 * source.randrange(2, 20), 512
        space = VhdBlockSpace(stored_size, 9, last_size)
        known: dict[int, tuple[int, int]] = {}
        for block in source.sample(range(10), 10):
            place = 512 * source.randrange(200)
            size = last_size if block == 9 else stored_size
            over = {other for other, (start, end) in known.items() if start < place + size and place < end}
            found = space.claim(block, place)
            assert (found in over) if over else (found is None)
            if not over:
                known[block] = (place, place + size)
                assert space.claim(block, place) is None


def test_memory_has_a_bound():
    space = VhdBlockSpace(1024, 1 << 31, 1024)
    tracemalloc.start()
    for block in range(PAGE_LIMIT * 2):
        assert space.claim(block, block * 1024 * 64) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 << 20
