from __future__ import annotations

import os

import pytest

from tests.disk.test_chain import vhd_chain, vhdx_chain
from tests.disk.vhd_files import KIB, MIB, make, open_disk
from tests.fuzz import vhd_images, vhdx_images
from vhdtool.disk import convert
from vhdtool.disk.convert import convert_to_raw
from vhdtool.errors import DamagedError, OutputError, RefusedError


class Listener:
    def __init__(self, stop_after=None):
        self.told = []
        self.done = 0
        self._stop_after = stop_after

    def start(self, what, total):
        self.told.append((what, total))

    def advance(self, done):
        self.done += done
        if self._stop_after is not None and self.done > self._stop_after:
            raise KeyboardInterrupt

    def finish(self):
        self.told.append("finish")


@pytest.mark.parametrize(
    ("chain", "suffix", "model"),
    [(vhd_chain, "vhd", vhd_images.read_model), (vhdx_chain, "vhdx", vhdx_images.read_model)],
)
def test_a_chain_as_one_file(tmp_path, chain, suffix, model):
    top = chain(tmp_path)[-1]
    out, listener = tmp_path / "out.raw", Listener()
    before = sorted(path.name for path in tmp_path.iterdir())
    with open_disk(tmp_path / f"layer3.{suffix}") as disk:
        converted = convert_to_raw(disk, out, listener)
    assert out.read_bytes() == model(top, 0, top.virtual_size)
    assert converted.size == top.virtual_size
    assert listener.told == [("convert", top.virtual_size), "finish"]
    assert listener.done == top.virtual_size
    assert sorted(path.name for path in tmp_path.iterdir()) == [*before, "out.raw"]


def test_holes_and_zeros_are_not_written(tmp_path):
    path, out = tmp_path / "a.vhd", tmp_path / "out.raw"
    size = 4 << 40 >> 2  # 1 TiB
    make(path, virtual_size=size, blocks={0: frozenset({0, 4000})})
    with open_disk(path) as disk:
        converted = convert_to_raw(disk, out)
    assert out.stat().st_size == size
    assert converted.written == 2 * 64 * KIB or converted.written == 1024
    assert out.stat().st_blocks * 512 < 2 * MIB


def test_pieces_that_end_anywhere(tmp_path):
    path, out = tmp_path / "a.vhd", tmp_path / "out.raw"
    layer = make(path, virtual_size=3 * MIB + 512, blocks={0: frozenset(range(3, 4000, 7)), 1: frozenset({2000, 2048})})
    with open_disk(path) as disk:
        convert_to_raw(disk, out)
    assert out.read_bytes() == vhd_images.read_model(layer, 0, 3 * MIB + 512)


def test_the_umask_rules_the_new_file(tmp_path):
    make(tmp_path / "a.vhd")
    old = os.umask(0o027)
    try:
        with open_disk(tmp_path / "a.vhd") as disk:
            convert_to_raw(disk, tmp_path / "out.raw")
    finally:
        os.umask(old)
    if os.name == "posix":
        assert (tmp_path / "out.raw").stat().st_mode & 0o777 == 0o640


def refused(disk, out):
    with pytest.raises((OutputError, RefusedError)) as caught:
        convert_to_raw(disk, out)
    return caught.value.code


def test_nothing_is_overwritten(tmp_path):
    vhd_chain(tmp_path)
    out = tmp_path / "out.raw"
    out.write_bytes(b"mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.link(tmp_path / "layer1.vhd", tmp_path / "same.raw")
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with open_disk(tmp_path / "layer3.vhd") as disk:
        assert refused(disk, out) == "output-exists"
        assert refused(disk, tmp_path / "dangling") == "output-exists"
        assert refused(disk, tmp_path) == "output-exists"
        for name in ("layer3.vhd", "layer1.vhd", "same.raw"):
            assert refused(disk, tmp_path / name) == "output-is-input"
        assert refused(disk, tmp_path / "no" / "folder") == "cannot-write"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == contents


def test_a_file_that_appears_meanwhile_stays(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")
    out = tmp_path / "out.raw"
    real = convert._write

    def write_and_lose(*arguments):
        out.write_bytes(b"mine")
        return real(*arguments)

    monkeypatch.setattr(convert, "_write", write_and_lose)
    for link in (os.link, None):
        if link is None:
            monkeypatch.setattr(os, "link", no_links)
        with open_disk(tmp_path / "a.vhd") as disk:
            out.unlink(missing_ok=True)
            assert refused(disk, out) == "output-exists"
        assert out.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vhd", "out.raw"]


def no_links(*_):
    raise PermissionError(1, "no links here")


def test_a_file_system_without_links(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")
    monkeypatch.setattr(os, "link", no_links)
    with open_disk(tmp_path / "a.vhd") as disk:
        convert_to_raw(disk, tmp_path / "out.raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vhd", "out.raw"]


def test_an_interruption_leaves_nothing(tmp_path):
    make(tmp_path / "a.vhd")
    listener = Listener(stop_after=MIB)
    with open_disk(tmp_path / "a.vhd") as disk, pytest.raises(KeyboardInterrupt):
        convert_to_raw(disk, tmp_path / "out.raw", listener)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhd"]
    assert listener.told[-1] == "finish"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    make(tmp_path / "a.vhd")

    def full(*_):
        raise OSError(28, "No space left on device")

    with open_disk(tmp_path / "a.vhd") as disk:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OutputError, match="No space left") as caught:
            convert_to_raw(disk, tmp_path / "out.raw")
    assert caught.value.code == "cannot-write"
    assert [path.name for path in tmp_path.iterdir()] == ["a.vhd"]


def test_a_damaged_image_leaves_nothing(tmp_path):
    path = tmp_path / "a.vhd"
    make(path)
    with path.open("r+b") as file:
        file.seek(1536 + 8)
        file.write(b"\x7f\xff\xff\xff")
    with open_disk(path) as disk, pytest.raises(DamagedError):
        convert_to_raw(disk, tmp_path / "out.raw")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vhd"]
