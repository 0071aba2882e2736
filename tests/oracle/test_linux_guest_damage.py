"""Linux guests whose files are damaged, lie or lead in circles: inspect ends soon, in little memory, and says what.

The command runs as a process whose address space is limited; all else of the guest must still be told.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scripts.fixtures.linux_guest_initramfs import make_initramfs
from tests.oracle.linux_guests import GuestShop, guest_shop
from tests.tools import require_tool

pytestmark = pytest.mark.oracle

MOST_MEMORY = 3 << 30
LONGEST = 30
RPM = "usr/lib/sysimage/rpm/rpmdb.sqlite"

Change = Callable[[Path, str], None]
Document = dict[str, Any]


@pytest.fixture(scope="module")
def shop() -> GuestShop:
    return guest_shop()


def inspected(image: Path) -> Document:
    """The one guest of the document, of a run that may take only so much time and memory."""
    limits = (require_tool("prlimit"), f"--as={MOST_MEMORY}", "--")
    done = subprocess.run(
        (*limits, sys.executable, "-m", "vhdtool", "inspect", "--json", str(image)),
        capture_output=True,
        check=False,
        timeout=LONGEST,
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == 0, done.stderr.decode()
    (guest,) = json.loads(done.stdout)["guests"]
    assert isinstance(guest, dict)
    return guest


def told(guest: Document, code: str) -> list[str]:
    """The findings that name an error's code, or have it."""
    return [one["message"] for one in guest["findings"] if code in one["code"] or f"[{code}]" in one["message"]]


def kernel(guest: Document) -> Document:
    (found,) = guest["linux"]["kernels"]
    assert isinstance(found, dict)
    return found


def daemon(guest: Document, name: str = "hv_kvp_daemon") -> Document:
    (found,) = (one for one in guest["linux"]["daemons"] if one["name"] == name)
    assert isinstance(found, dict)
    return found


def check_rest(guest: Document) -> None:
    """What no damage of these tests touches."""
    assert guest["os"]["family"] == "linux"
    assert {module["name"] for module in kernel(guest)["modules"] if module["path"]} >= {"hv_utils", "hv_balloon"}


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def initrd(root: Path, release: str) -> Path:
    return root / f"boot/initrd.img-{release}"


def cut_initramfs(root: Path, release: str) -> None:
    file = initrd(root, release)
    os.truncate(file, file.stat().st_size * 2 // 3)


def changed_header(root: Path, release: str, field: int, value: bytes) -> None:
    """Change a field of the third header of a plain archive: each has 6 + 13 * 8 bytes (newc)."""
    file = make_initramfs(root, release, initrd(root, release), compression="none", early=False)
    data = bytearray(file.read_bytes())
    at = -1
    for _ in range(3):
        at = data.index(b"070701", at + 1)
    data[at + 6 + field * 8 : at + 14 + field * 8] = value
    file.write_bytes(data)


def initramfs_bomb(root: Path, release: str) -> None:
    """A file of 4 GiB, of which 1.2 GiB are there, in less than 1 MiB of zstd."""
    head = b"070701" + b"".join(b"%08X" % n for n in (1, 0o100644, 0, 0, 1, 0, 0xFFFFFFF0, 0, 0, 0, 0, 2, 0)) + b"x\0"
    with initrd(root, release).open("wb") as target:
        packer = subprocess.Popen(
            (require_tool("zstd"), "-qc", "-1", "--long=27"), stdin=subprocess.PIPE, stdout=target, bufsize=0
        )
        assert packer.stdin is not None
        packer.stdin.write(head)
        for _ in range(1200):
            packer.stdin.write(bytes(1 << 20))
        packer.stdin.close()
        assert packer.wait(60) == 0


def initramfs_of_names(root: Path, release: str) -> None:
    """Six hundred thousand empty files."""
    head = b"070701" + b"".join(b"%08X" % n for n in (1, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0)) + b"x\0"
    initrd(root, release).write_bytes(_gzipped(head.ljust(112, b"\0") * 600_000))


def _gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def initramfs_is_damaged(guest: Document) -> None:
    check_rest(guest)
    assert kernel(guest)["initramfs"]["modules"] is None
    assert {module["in_initramfs"] for module in kernel(guest)["modules"]} == {None}
    assert [one for one in guest["findings"] if "initrd.img" in one["message"]]


def cut_module(root: Path, release: str) -> None:
    (file,) = (root / "usr/lib/modules" / release).rglob("hv_netvsc.ko")
    os.truncate(file, 1000)


def module_that_lies(root: Path, release: str) -> None:
    """The table of sections lies far behind the end, and each section's name too."""
    (file,) = (root / "usr/lib/modules" / release).rglob("hv_netvsc.ko")
    data = bytearray(file.read_bytes())
    data[40:48] = struct.pack("<Q", 0xFFFFFFFFFFFFFF00)
    file.write_bytes(data)


def module_is_damaged(guest: Document) -> None:
    check_rest(guest)
    (module,) = (one for one in kernel(guest)["modules"] if one["name"] == "hv_netvsc")
    assert (module["vermagic"], module["version"]) == (None, None)
    assert [one for one in guest["findings"] if "hv_netvsc" in one["message"]]


def huge_status(root: Path, _: str) -> None:
    status = root / "var/lib/dpkg/status"
    sparse(status, 200 << 20, status.read_bytes())


def owners_are_unknown(guest: Document) -> None:
    check_rest(guest)
    assert daemon(guest)["package"] is None
    assert daemon(guest)["path"] is not None
    assert [one for one in guest["findings"] if "unreadable" in one["code"] or "package" in one["message"]]


def status_without_end(root: Path, _: str) -> None:
    """One stanza of 10 MB: lines that continue, and fields that come again."""
    status = root / "var/lib/dpkg/status"
    status.write_bytes(
        status.read_bytes() + b"\nPackage: x\n" + b" continued\nStatus: install ok installed\n" * 200_000
    )


def owner_is_known(guest: Document) -> None:
    check_rest(guest)
    assert daemon(guest)["package"]["name"] == "hyperv-daemons"


def links_in_circles(root: Path, _: str) -> None:
    for name in ("etc/modprobe.d", "etc/udev", "etc/modules", "etc/fstab", "etc/default"):
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(path.name)
    (root / "etc/systemd/system/a.wants").symlink_to("b.wants")
    (root / "etc/systemd/system/b.wants").symlink_to("a.wants")
    (root / "etc/systemd/system/loop.target.wants").symlink_to(".")
    (root / "var/lib/hyperv").mkdir(exist_ok=True)
    for number in range(5):
        pool = root / f"var/lib/hyperv/.kvp_pool_{number}"
        pool.unlink(missing_ok=True)
        pool.symlink_to(f".kvp_pool_{(number + 1) % 5}")


def as_if_nothing_were_there(guest: Document) -> None:
    """The guest itself gets ELOOP for such a path."""
    still_starts(guest)
    assert guest["linux"]["kvp_pools"] == []
    assert guest["linux"]["mounts"] == []
    assert len(daemon(guest)["started_by"]) == 2


def kinds_that_do_not_fit(root: Path, release: str) -> None:
    """Directories and pipes where files belong, a file where a directory does."""
    for name in ("boot/grub/grub.cfg", f"boot/config-{release}", "etc/fstab"):
        (root / name).unlink()
        (root / name).mkdir()
    (root / "etc/modules").unlink(missing_ok=True)
    os.mkfifo(root / "etc/modules")
    shutil.rmtree(root / "etc/modprobe.d")
    (root / "etc/modprobe.d").write_text("blacklist hv_netvsc\n")
    os.mkfifo(root / "etc/modules-load.d" if not (root / "etc/modules-load.d").exists() else root / "etc/pipe")


def still_starts(guest: Document) -> None:
    check_rest(guest)
    assert daemon(guest)["start"] == "boot"
    assert [module["name"] for module in kernel(guest)["modules"] if module["blocked"]] == []


def fstab_of_many_lines(root: Path, _: str) -> None:
    """Root mounted over everything, and a hundred thousand lines."""
    lines = [f"LABEL=variant {path} ext4 defaults 0 0" for path in ("/", "/usr", "/boot", "/usr/lib", "/etc", "/var")]
    (root / "etc/fstab").write_text("\n".join(lines) + "\n/dev/sda1 /boot ext4\n" * 100_000)


def the_guest_is_told(guest: Document) -> None:
    assert guest["os"]["family"] == "linux"
    assert len(guest["linux"]["mounts"]) <= 16


def endless_menu(root: Path, _: str) -> None:
    text = "submenu 'x' {\n" * 200_000 + "menuentry 'y' {\nlinux /boot/vmlinuz-1\n}\n" * 100_000
    (root / "boot/grub/grub.cfg").write_text(text)


def cut_pools(root: Path, _: str) -> None:
    sparse(root / "var/lib/hyperv/.kvp_pool_0", 4000, b"key")
    sparse(root / "var/lib/hyperv/.kvp_pool_1", 200 << 20)
    sparse(root / "var/lib/hyperv/.kvp_pool_2", 50 << 20)
    (root / "var/lib/hyperv/.kvp_pool_3").write_bytes(b"\xff" * 2560)


def pools_are_bounded(guest: Document) -> None:
    check_rest(guest)
    found = {pool["number"]: pool for pool in guest["linux"]["kvp_pools"]}
    assert found[0]["count"] == 1
    assert found[2]["count"] == (50 << 20) // 2560
    assert len(found[2]["records"]) <= 1024
    assert len(found[3]["records"]) == 1
    assert 1 not in found
    assert told(guest, "kvp-pool-cut-off")
    assert told(guest, "guest-file-too-large")


DEBIAN: dict[str, tuple[Change, Callable[[Document], None]]] = {
    "initramfs cut off": (cut_initramfs, initramfs_is_damaged),
    "file of 4 GiB in the archive": (lambda r, k: changed_header(r, k, 6, b"FFFFFFFF"), initramfs_is_damaged),
    "name of 4 GiB in the archive": (lambda r, k: changed_header(r, k, 11, b"FFFFFFFF"), initramfs_is_damaged),
    "no name in the archive": (lambda r, k: changed_header(r, k, 11, b"00000000"), initramfs_is_damaged),
    "no number in the archive": (lambda r, k: changed_header(r, k, 6, b"-0000001"), initramfs_is_damaged),
    "initramfs of more than memory": (initramfs_bomb, initramfs_is_damaged),
    "initramfs of six hundred thousand files": (initramfs_of_names, initramfs_is_damaged),
    "initramfs of zeros": (lambda r, k: sparse(initrd(r, k), 100 << 20), initramfs_is_damaged),
    "module cut off": (cut_module, module_is_damaged),
    "module that lies": (module_that_lies, module_is_damaged),
    "dpkg status of 200 MiB": (huge_status, owners_are_unknown),
    "dpkg status without end": (status_without_end, owner_is_known),
    "links in circles": (links_in_circles, as_if_nothing_were_there),
    "kinds that do not fit": (kinds_that_do_not_fit, still_starts),
    "fstab of many lines": (fstab_of_many_lines, the_guest_is_told),
    "endless menu": (endless_menu, check_rest),
    "pools cut and huge": (cut_pools, pools_are_bounded),
}


@pytest.mark.parametrize("name", DEBIAN)
def test_damage_is_told_and_bounded(shop: GuestShop, tmp_path: Path, name: str) -> None:
    change, check = DEBIAN[name]
    check(inspected(shop.variant(tmp_path, change)))


def database_of_noise(root: Path, _: str) -> None:
    file = root / RPM
    data = bytearray(file.read_bytes())
    noise = random.Random(5)
    for at in range(4096, len(data), 512):
        data[at : at + 64] = noise.randbytes(64)
    file.write_bytes(data)


def cut_database(root: Path, _: str) -> None:
    os.truncate(root / RPM, (root / RPM).stat().st_size // 2 // 4096 * 4096)


def headers_that_lie(root: Path, _: str) -> None:
    """Counts of four thousand million in the index of each package's header."""
    with closing(sqlite3.connect(root / RPM)) as connection:
        for number, blob in connection.execute("SELECT hnum, blob FROM Packages").fetchall():
            changed = bytearray(blob)
            count, _ = struct.unpack_from(">II", changed)
            for index in range(count):
                struct.pack_into(">I", changed, 8 + index * 16 + 12, 0xFFFFFFFF)
            connection.execute("UPDATE Packages SET blob = ? WHERE hnum = ?", (bytes(changed), number))
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")


def view_without_end(root: Path, _: str) -> None:
    """A view in the place of the table, that counts for ever."""
    (root / RPM).unlink()
    with closing(sqlite3.connect(root / RPM)) as connection:
        connection.execute(
            "CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) "
            "SELECT hnum, zeroblob(1000000) AS blob FROM n"
        )
        connection.execute("CREATE TABLE Basenames (key TEXT, hnum INTEGER, idx INTEGER)")
        connection.commit()


def database_of_a_gigabyte(root: Path, _: str) -> None:
    sparse(root / RPM, 1 << 30, (root / RPM).read_bytes())


RPM_DAMAGE: dict[str, Change] = {
    "noise": database_of_noise,
    "cut off": cut_database,
    "headers that lie": headers_that_lie,
    "view without end": view_without_end,
    "of a gigabyte": database_of_a_gigabyte,
    "empty": lambda root, _: sparse(root / RPM, 0),
}


@pytest.mark.parametrize("name", RPM_DAMAGE)
def test_damaged_rpm_database(shop: GuestShop, tmp_path: Path, name: str) -> None:
    guest = inspected(shop.variant(tmp_path, RPM_DAMAGE[name], of="suse-ext4"))
    check_rest(guest)
    assert daemon(guest)["path"] == "/usr/lib/hyper-v/bin/hv_kvp_daemon"
    assert daemon(guest)["start"] == "boot"
    assert daemon(guest)["package"] is None
    assert (
        told(guest, "rpm-database-damaged") or told(guest, "rpm-header-damaged") or told(guest, "guest-file-too-large")
    )
