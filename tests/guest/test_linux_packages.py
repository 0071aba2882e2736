from __future__ import annotations

import sqlite3
import struct
import time

import pytest

from tests.guest.linux_files import rpm_header
from tests.guest.linux_filesystem import Content, tree
from vhdtool.bytesource import BytesSource
from vhdtool.errors import DamagedError
from vhdtool.guest.linux_model import LinuxPackage
from vhdtool.guest.linux_packages import open_packages, same_file
from vhdtool.guest.linux_rpm import RpmHeader
from vhdtool.guest.linux_rpm_files import BerkeleyDatabase, NdbDatabase
from vhdtool.guest.source import Troubles

KVP = "/usr/sbin/hv_kvp_daemon"
KERNEL = "/boot/vmlinuz-6.1.0-2-amd64"
STATUS = """Package: hyperv-daemons
Status: install ok installed
Architecture: amd64
Version: 6.1.192-2
Description: x
 Version: 9

Package: linux-image-6.1.0-2-amd64
Status: install ok half-configured
Architecture: amd64
Version: 6.1.192-2

Package: gone
Status: deinstall ok config-files
Version: 1

Package: unusual-name
Status: install ok installed
Architecture: amd64
Version: 3
"""
DPKG: dict[str, Content | str] = {
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/info/hyperv-daemons.list": "/.\n/usr\n/usr/sbin\n/usr/sbin/hv_kvp_daemon\n",
    "var/lib/dpkg/info/linux-image-6.1.0-2-amd64:amd64.list": f"/.\n/boot\n{KERNEL}\n",
    "var/lib/dpkg/info/gone.list": "/usr/sbin/gone\n",
    "var/lib/dpkg/info/unusual-name.list": "/usr/sbin/unusual\n/usr/sbin/hv_kvp_daemon2",
}


def owners(files: dict[str, Content | str], *paths: str, thorough: tuple[str, ...] = ()) -> dict[str, LinuxPackage]:
    troubles = Troubles()
    database = open_packages(tree(files), troubles)
    assert troubles.found == []
    assert database is not None
    return database.owners(paths, thorough)


def test_dpkg_knows_whose_a_file_is_and_how_far_its_package_is():
    found = owners(DPKG, KVP, KERNEL, "/usr/sbin/gone", "/usr/sbin/nobody")
    assert found == {
        KVP: LinuxPackage("hyperv-daemons", "6.1.192-2"),
        KERNEL: LinuxPackage("linux-image-6.1.0-2-amd64", "6.1.192-2", "half-configured"),
    }


def test_dpkg_looks_everywhere_for_what_is_worth_it():
    assert owners(DPKG, "/usr/sbin/unusual") == {}
    found = owners(DPKG, "/usr/sbin/unusual", thorough=("/usr/sbin/unusual",))
    assert found["/usr/sbin/unusual"].name == "unusual-name"


def test_one_file_has_two_names_where_usr_is_one():
    assert set(same_file("/lib/modules/a")) == {"/lib/modules/a", "/usr/lib/modules/a"}
    assert "/sbin/x" in same_file("/usr/sbin/x")
    assert "/usr/bin/x" in same_file("/usr/sbin/x")
    assert same_file("/usr/share/x") == ("/usr/share/x",)
    old = DPKG | {"var/lib/dpkg/info/hyperv-daemons.list": "/sbin/hv_kvp_daemon\n"}
    assert owners(old, KVP)[KVP].name == "hyperv-daemons"


def test_apk():
    text = "C:Q1x\nP:musl\nV:1.2\nF:lib\nR:libc.so\n\n"
    text += "C:Q2\nP:hvtools\nV:6.6-r0\nA:x86_64\nF:usr/sbin\nR:hv_kvp_daemon\na:0:0:755\n"
    assert owners({"lib/apk/db/installed": text}, KVP) == {KVP: LinuxPackage("hvtools", "6.6-r0")}


def test_no_database():
    assert open_packages(tree({"etc/os-release": ""}), Troubles()) is None


HEADERS = [
    rpm_header("bash", "5.1", "8.el9", ["/usr/bin/bash", "/etc/skel/.bashrc"]),
    rpm_header("hypervkvpd", "0", "0.42.el9", ["/usr/lib/systemd/system/hypervkvpd.service", "/usr/sbin/hypervkvpd"]),
    rpm_header("kernel-core", "5.14.0", "427.el9", ["/boot/vmlinuz-5.14.0", "/lib/modules/5.14.0/vmlinuz"], epoch=2),
]
WANTED = ("/usr/sbin/hypervkvpd", "/lib/modules/5.14.0/vmlinuz", "/etc/hypervkvpd", "/usr/lib/modules/5.14.0/vmlinuz")
FOUND = {
    "/usr/sbin/hypervkvpd": LinuxPackage("hypervkvpd", "0-0.42.el9"),
    "/lib/modules/5.14.0/vmlinuz": LinuxPackage("kernel-core", "2:5.14.0-427.el9"),
}


def sqlite(*, index: bool = True, script: str = "") -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    if index:
        connection.execute("CREATE TABLE Basenames (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
    for number, blob in enumerate(HEADERS, 1):
        connection.execute("INSERT INTO Packages VALUES (?, ?)", (number, blob))
        names = [name for name in (b"bash", b"hypervkvpd", b"vmlinuz") if b"\0" + name + b"\0" in blob or name in blob]
        for name in names if index else ():
            connection.execute("INSERT INTO Basenames VALUES (?, ?, 0)", (name.decode(), number))
    connection.executescript(script)
    connection.commit()
    data = bytearray(connection.serialize())
    connection.close()
    data[18] = data[19] = 2  # as rpm leaves it: with a write-ahead log
    return bytes(data)


def ndb() -> bytes:
    slots = b"RpmP" + struct.pack("<III", 0, 7, 1) + bytes(16)
    blobs = b""
    for number, blob in enumerate(HEADERS, 1):
        offset = 4096 + len(blobs)
        body = b"BlbS" + struct.pack("<III", number, 1, len(blob)) + blob + bytes(-len(blob) % 16)
        tail = struct.pack("<II", 0, len(blob)) + b"BlbE" + bytes(4)
        slots += b"Slot" + struct.pack("<III", number, offset // 16, (len(body) + len(tail)) // 16)
        blobs += body + tail
    slots += (b"Slot" + bytes(12)) * ((4096 - len(slots)) // 16)
    return slots + blobs


def berkeley(order: str = "<", page_size: int = 512) -> bytes:
    """A hash with one page of pairs; each header lies in a chain of overflow pages (db_page.h)."""
    pages: list[bytes] = [b"", b""]
    entries: list[bytes] = []
    for number, blob in enumerate(HEADERS, 1):
        room = page_size - 26
        parts = [blob[at : at + room] for at in range(0, len(blob), room)]
        first = len(pages)
        for index, part in enumerate(parts):
            follows = 0 if index == len(parts) - 1 else len(pages) + 1
            head = struct.pack(f"{order}8xIIIHHBB", len(pages), 0, follows, 1, len(part), 0, 7)
            pages.append((head + part).ljust(page_size, b"\0"))
        entries += [b"\x01" + struct.pack(f"{order}I", number), struct.pack(f"{order}B3xII", 3, first, len(blob))]
    entries += [b"\x01" + bytes(4), b"\x01" + struct.pack(f"{order}I", 9)]
    places, body = [], b""
    for entry in entries:
        body = entry + body
        places.append(page_size - len(body))
    head = struct.pack(f"{order}8xIIIHHBB", 1, 0, 0, len(entries), places[-1], 0, 13)
    table = head + struct.pack(f"{order}{len(places)}H", *places)
    pages[1] = table.ljust(page_size - len(body), b"\0") + body
    meta = struct.pack(f"{order}8xIIIIBBBBIII", 0, 0x061561, 9, page_size, 0, 8, 0, 0, 0, len(pages) - 1, 0)
    pages[0] = meta.ljust(page_size, b"\0")
    return b"".join(pages)


FORMS = {
    "sqlite": ("usr/lib/sysimage/rpm/rpmdb.sqlite", sqlite()),
    "sqlite without its index": ("var/lib/rpm/rpmdb.sqlite", sqlite(index=False)),
    "ndb": ("usr/lib/sysimage/rpm/Packages.db", ndb()),
    "berkeley": ("var/lib/rpm/Packages", berkeley()),
    "berkeley of the other byte order": ("var/lib/rpm/Packages", berkeley(">", 4096)),
}


@pytest.mark.parametrize("form", FORMS)
def test_rpm_in_all_its_forms(form: str):
    path, data = FORMS[form]
    found = owners({path: data}, *WANTED)
    # a path that both names of a directory lead to is one file
    assert {name: package for name, package in found.items() if name in FOUND} == FOUND
    assert "/etc/hypervkvpd" not in found


@pytest.mark.parametrize("form", FORMS)
def test_every_cut_and_change_of_an_rpm_database_is_an_error_or_an_answer(form: str):
    path, data = FORMS[form]
    for at in range(0, len(data), max(1, len(data) // 150)):
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], data[:at] + b"\xff" * 16):
            troubles = Troubles()
            with troubles.guard("the database"):
                database = open_packages(tree({path: bad}), troubles)
                found = {} if database is None else database.owners(WANTED)
                assert set(found) <= set(WANTED)
            assert all(trouble.error.path for trouble in troubles.found)


def test_a_view_in_the_place_of_the_table_is_not_asked():
    endless = (
        "DROP TABLE Packages; CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT x AS hnum, zeroblob(x) AS blob FROM n;"
    )
    database = open_packages(tree({"var/lib/rpm/rpmdb.sqlite": sqlite(script=endless)}), Troubles())
    assert database is not None
    start = time.monotonic()
    with pytest.raises(DamagedError) as caught:
        database.owners(WANTED)
    assert caught.value.code == "rpm-database-damaged"
    assert time.monotonic() - start < 5


def test_what_is_only_in_the_log_of_the_database_is_told():
    troubles = Troubles()
    files = {"var/lib/rpm/rpmdb.sqlite": sqlite(), "var/lib/rpm/rpmdb.sqlite-wal": b"x" * 5000}
    assert open_packages(tree(files), troubles) is None
    assert [trouble.error.code for trouble in troubles.found] == ["rpm-database-in-use"]
    assert owners(files | {"var/lib/rpm/rpmdb.sqlite-wal": b""}, *WANTED)


def test_chains_and_slots_that_lead_in_circles():
    data = bytearray(berkeley())
    struct.pack_into("<I", data, 2 * 512 + 16, 2)  # the first overflow page follows itself
    struct.pack_into("<H", data, 2 * 512 + 22, 1)  # and gives one byte each time
    start = time.monotonic()
    found = list(BerkeleyDatabase(BytesSource(data), "Packages").headers(()))
    assert len(found) == 4
    data = bytearray(ndb())
    struct.pack_into("<I", data, 12, 4096)  # as many pages of slots as there may be
    with pytest.raises(DamagedError):
        list(NdbDatabase(BytesSource(data), "Packages.db").headers(()))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0\0\0\1",
        struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        struct.pack(">II", 1, 100) + bytes(16),
        struct.pack(">II", 0, 0),
    ],
)
def test_a_damaged_header(blob: bytes):
    with pytest.raises(DamagedError) as caught:
        RpmHeader(blob, "Packages")
    assert caught.value.code == "rpm-header-damaged"


def test_lists_that_are_longer_than_the_header():
    for tag, count in ((1117, 1 << 31), (1116, 1 << 31), (1117, 100), (1118, 100)):
        blob = struct.pack(">II", 1, 4) + struct.pack(">IIII", tag, 8, 0, count) + b"a\0b\0"
        with pytest.raises(DamagedError):
            list(RpmHeader(blob, "Packages").files([b"a"]))
