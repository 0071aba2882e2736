"""Damaged NTFS volumes under the checks before and after a write: an answer, a refusal, and never anything else.

Damage lies where structures are: records, index blocks, boot sector and bitmaps, with their fixups right or broken.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fs.ntfs_surgery import Surgery, closed, opened
from tests.fs.test_in_place import WritableMemory
from tests.fs.test_ntfs import VOLUME
from tests.property.bounds import bounded
from tests.volume.memory import MemoryDevice
from vhdtool.errors import VhdtoolError
from vhdtool.fs.fitness import refuse_unfit_hive, refuse_unfit_volume
from vhdtool.fs.in_place import overwrite
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.fs.ntfs_check import MAX_PROBLEMS, check_touched, check_volume
from vhdtool.volume.partitions import Volume

CLEAN = MemoryDevice(VOLUME)
PLACES = [
    (at, 4096 if VOLUME[at : at + 4] == b"INDX" else 1024)
    for at in range(0, len(VOLUME), 1024)
    if VOLUME[at : at + 4] in (b"FILE", b"INDX")
]
EXTREMES = st.sampled_from([b"\0", b"\xff", b"\x80", b"\xff" * 4, bytes(8), b"\x01", b"\xfe\xff\xff\xff"])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    volume = Surgery(VOLUME)
    for _ in range(draw(st.integers(1, 4))):
        new = draw(EXTREMES | st.binary(min_size=1, max_size=8))
        if draw(st.integers(0, 9)) == 0:
            at = draw(st.integers(0, 511) | st.integers(0, len(VOLUME) - 8))
            volume.data[at : at + len(new)] = new
            continue
        place, size = draw(st.sampled_from(PLACES))
        whole = bytes(volume.data[place : place + size])
        inside = draw(st.integers(8, size - 8) | st.integers(8, 400))
        structure = opened(whole) if whole[:4] in (b"FILE", b"INDX") and whole[6] in (3, 9) else bytearray(whole)
        structure[inside : inside + len(new)] = new
        fits = structure[:8] == whole[:8] and draw(st.booleans())
        volume.data[place : place + size] = closed(structure) if fits else bytes(structure)
    return bytes(volume.data)


@given(damaged())
def test_checks_of_damaged_volumes_end_with_an_answer(data: bytes) -> None:
    device = MemoryDevice(data)
    with bounded():
        assert len(check_volume(device)) <= MAX_PROBLEMS
        for before, after in ((CLEAN, device), (device, CLEAN), (device, device)):
            found = check_touched(before, after, [(0, len(data))], path="image", overwritten=())
            assert len(found) <= MAX_PROBLEMS
            assert all(problem.code.startswith("ntfs-") and problem.message for problem in found)


@given(damaged(), st.integers(0, 4000))
def test_refusals_and_overwriting_on_damaged_volumes(data: bytes, offset: int) -> None:
    device = WritableMemory(data)
    volume = Volume(0, 0, len(data), "none", "", None, "data", filesystem="ntfs")
    with bounded():
        for path in ("/plain.bin", "/spilled.bin", "/Directory/Sub/File.txt"):
            done = len(device.writes)
            refusal: VhdtoolError | None = None
            try:
                filesystem = NtfsFilesystem(device)
                refuse_unfit_volume(device, volume, filesystem, room=4096)
                refuse_unfit_hive(filesystem, path)
                overwrite(device, filesystem, path, [(offset, b"new"), (0, b"first")])
            except VhdtoolError as error:
                refusal = error
            if refusal is None:
                assert [length for _, length in device.writes[done:]] == [3, 5]
            else:
                assert refusal.exit_code in (1, 3, 4)
                assert refusal.message
                assert len(device.writes) == done
