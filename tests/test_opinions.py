"""One change behind everybody's back, and exactly the opinion that it concerns stops the commit."""

from __future__ import annotations

import hashlib
import random
import struct

import pytest

from tests.disk.candidates import child_of, flipped, replaced
from tests.fixtures import fixture_file
from vhdtool.bytesource import BytesSource
from vhdtool.disk.chain import open_disk
from vhdtool.disk.container_opinion import confirm_container
from vhdtool.disk.overlay import Overlay
from vhdtool.errors import OpinionError
from vhdtool.fs.directory_opinion import FileExpectation, confirm_files
from vhdtool.fs.ntfs import NtfsFilesystem
from vhdtool.registry.edit import HiveEditor
from vhdtool.registry.hive import Hive
from vhdtool.registry.operation import CreateKey, DeleteValue, SetValue
from vhdtool.registry.opinion import confirm_hive
from vhdtool.volume.partitions import read_volumes, volume_device

SYSTEM = "/Windows/System32/config/SYSTEM"
DRIVER = "/Windows/System32/drivers/vmbus.sys"
OPERATIONS = (
    SetValue("ControlSet001\\Services\\vmicvss", "Start", 4, struct.pack("<I", 2)),
    SetValue("ControlSet001\\Services\\vmicvss", "Mark", 3, bytes(range(200))),
    DeleteValue("ControlSet001\\Services\\vmicheartbeat", "Description"),
    CreateKey("ControlSet001\\Services\\new"),
)


class Scene:
    """The guest with its SYSTEM hive edited in place in an overlay, and a child file made of that."""

    def __init__(self, overlay, folder):
        self.overlay, self.folder = overlay, folder
        self.volume = next(one for one in read_volumes(overlay).volumes if one.filesystem == "ntfs")
        self.device = volume_device(overlay, self.volume)
        filesystem = NtfsFilesystem(self.device)
        driver, system = filesystem.open(DRIVER), filesystem.open(SYSTEM)
        content = driver.read_at(0, driver.size)
        self.expected = [
            FileExpectation(DRIVER, "file", driver.size, hashlib.sha256(content).hexdigest()),
            FileExpectation(SYSTEM, "file", system.size),
        ]
        editor = HiveEditor(Hive.open(BytesSource(system.read_at(0, system.size)), path=SYSTEM))
        assert all(editor.apply(operation) for operation in OPERATIONS[:2])
        for operation in OPERATIONS[2:]:
            editor.apply(operation)
        edited = editor.finish()
        assert edited.size == system.size
        for offset, piece in edited.pieces():
            self.write(system, offset, piece)

    def write(self, file, offset, piece):
        """Write into a file of the guest."""
        for extent in file.extents():
            start, stop = max(offset, extent.file_offset), min(offset + len(piece), extent.file_offset + extent.length)
            if start < stop:
                place = self.volume.offset + extent.volume_offset + start - extent.file_offset
                self.overlay.write_at(place, piece[start - offset : stop - offset])

    def flip(self, place):
        """Change one bit of the overlay."""
        self.overlay.write_at(place, bytes([self.overlay.read_at(place, 1)[0] ^ 1]))

    def find(self, wanted, start=0):
        whole = self.overlay.read_at(self.volume.offset, self.volume.size)
        return self.volume.offset + whole.index(wanted, start)

    def opinions(self, candidate):
        """Who objects: the codes by the name of the opinion."""
        hive = NtfsFilesystem(self.device).open(SYSTEM)
        calls = {
            "container": lambda: confirm_container(candidate, self.overlay, seed=1),
            "files": lambda: confirm_files(self.device, self.volume, self.expected),
            "hive": lambda: confirm_hive(hive, OPERATIONS, path=SYSTEM),
        }
        objections = {}
        for name, call in calls.items():
            try:
                call()
            except OpinionError as error:
                objections[name] = error.code
        return objections

    def child(self):
        return child_of(self.overlay, self.folder / "child.vhdx")


@pytest.fixture
def scene(tmp_path):
    with open_disk(fixture_file("windows-guest.vhdx")) as disk, Overlay(disk) as overlay:
        yield Scene(overlay, tmp_path)


def test_all_agree(scene):
    assert scene.opinions(scene.child()) == {}


@pytest.mark.parametrize("seed", range(8))
def test_a_bit_of_the_would_be_file(scene, seed):
    """Of a changed sector, as it lies in the file that would be made."""
    candidate = scene.child()
    file = candidate.files[0][1]
    choice = random.Random(seed)
    start, length = choice.choice(list(scene.overlay.changed()))
    place = file.read_at(0, file.size).index(scene.overlay.read_at(start, 512)) + choice.randrange(min(length, 512))
    assert scene.opinions(replaced(candidate, flipped(file, place))) == {"container": "second-opinion-container"}


@pytest.mark.parametrize("field", ["reference", "sequence", "name"])
def test_a_bit_of_a_directory_entry(scene, field):
    name = "vmbus.sys".encode("utf-16-le")
    record = NtfsFilesystem(scene.device).stat(DRIVER).record
    place = -1
    while True:  # the name is in the file's own record as well: the entry has its number 82 bytes before
        place = scene.find(name, place + 1 - scene.volume.offset if place >= 0 else 0)
        if int.from_bytes(scene.overlay.read_at(place - 82, 4), "little") == record:
            break
    scene.flip({"reference": place - 82, "sequence": place - 82 + 6, "name": place}[field])
    assert scene.opinions(scene.child()) == {"files": "second-opinion-files"}


@pytest.mark.parametrize("what", ["data", "inline data", "type"])
def test_a_bit_of_a_hive_value(scene, what):
    start = scene.find(b"Start", scene.find(b"vmicvss") - scene.volume.offset)
    mark = scene.find(b"Mark")
    place = {"data": scene.find(bytes(range(200))) + 77, "inline data": start - 12, "type": mark - 8}[what]
    scene.flip(place)
    assert scene.opinions(scene.child()) == {"hive": "second-opinion-hive"}
