"""Room on the host."""

from __future__ import annotations

import pytest

from tests.disk.in_place import Full
from vhdtool.disk.room import refuse_no_room
from vhdtool.errors import OutputError


def test_room_is_held_against_what_is_needed():
    refuse_no_room(Full(1000), "/images/disk.vhd", 1000)
    with pytest.raises(OutputError) as caught:
        refuse_no_room(Full(999), "/images/disk.vhd", 1000)
    error = caught.value
    assert (error.code, error.expected, error.found) == ("no-room", "1000 bytes free", "999 bytes")
    assert "--child" in str(error.hint)
    with pytest.raises(OutputError, match="not enough room") as caught:
        refuse_no_room(Full(0), "/images/disk.vhd", 1, hint="another")
    assert caught.value.hint == "another"


def test_a_host_that_does_not_say_is_trusted():
    class Silent(Full):
        def free_space(self, path):
            assert path

    refuse_no_room(Silent(0), "/images/disk.vhd", 1 << 60)
