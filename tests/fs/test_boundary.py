from __future__ import annotations

import pytest

from vhdtool.errors import DamagedError
from vhdtool.fs.boundary import reading


def test_one_code_for_all_file_systems() -> None:
    with pytest.raises(DamagedError) as caught, reading("the ext file system", "/etc/fstab"):
        raise EOFError
    assert (caught.value.code, caught.value.path) == ("filesystem-damaged", "/etc/fstab")
