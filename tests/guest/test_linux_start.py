from __future__ import annotations

import pytest

from tests.guest.linux_filesystem import Link, tree
from vhdtool.guest.linux_start import StartRules
from vhdtool.guest.source import Troubles

UNIT = "hv-kvp-daemon.service"
UNIT_TEXT = "[Service]\nExecStart=-/usr/sbin/hv_kvp_daemon -n\n[Install]\nWantedBy=multi-user.target\n"
SYSTEMD = {"usr/lib/systemd/systemd": "x", "sbin/init": Link("../usr/lib/systemd/systemd"), "lib": Link("usr/lib")}
VENDOR = f"usr/lib/systemd/system/{UNIT}"


def start(files, units=(UNIT,)):
    troubles = Troubles()
    found = StartRules(tree(files), troubles)
    assert troubles.found == []
    return found, found.start(units)


def test_a_link_of_a_target_starts_with_the_system():
    link = f"etc/systemd/system/multi-user.target.wants/{UNIT}"
    rules, found = start(SYSTEMD | {VENDOR: UNIT_TEXT, link: Link(f"/lib/systemd/system/{UNIT}")})
    assert (found.how, found.by, found.unit) == ("boot", (f"/{link}",), UNIT)
    assert rules.init == "systemd"
    assert rules.program(found) == "/usr/sbin/hv_kvp_daemon"


@pytest.mark.parametrize("target", ["rescue.target", "emergency.target", "shutdown.target", "initrd.target"])
def test_a_target_that_is_not_reached_starts_nothing(target: str):
    _, found = start(SYSTEMD | {VENDOR: UNIT_TEXT, f"etc/systemd/system/{target}.wants/{UNIT}": Link("x")})
    assert (found.how, found.by) == ("no", ())


def test_a_device_starts_it_by_a_link_or_by_a_rule():
    link = f"usr/lib/systemd/system/sys-devices-virtual-misc-vmbus\\x21hv_kvp.device.wants/{UNIT}"
    assert start(SYSTEMD | {VENDOR: UNIT_TEXT, link: Link(f"../{UNIT}")})[1].how == "device"
    rule = f'KERNEL=="vmbus/hv_kvp", TAG+="systemd", \\\n ENV{{SYSTEMD_WANTS}}+="{UNIT}"\n'
    files = SYSTEMD | {VENDOR: UNIT_TEXT, "usr/lib/udev/rules.d/60-hyperv-daemons.rules": rule}
    _, found = start(files)
    assert (found.how, found.by) == (
        "device",
        (f"/usr/lib/udev/rules.d/60-hyperv-daemons.rules: SYSTEMD_WANTS {UNIT}",),
    )
    hidden = files | {"etc/udev/rules.d/60-hyperv-daemons.rules": Link("/dev/null")}
    assert start(hidden)[1].how == "no"
    assert (
        start(files | {"usr/lib/udev/rules.d/60-hyperv-daemons.rules": "# " + rule.replace("\\\n", "")})[1].how == "no"
    )
    assert start(SYSTEMD | {VENDOR: UNIT_TEXT, "etc/udev/rules.d/99-mine.rules": rule})[1].how == "device"


@pytest.mark.parametrize("mask", [Link("/dev/null"), ""])
def test_a_mask_weighs_more_than_anything(mask):
    link = f"etc/systemd/system/multi-user.target.wants/{UNIT}"
    rules, found = start(
        SYSTEMD | {VENDOR: UNIT_TEXT, link: Link(f"/lib/systemd/system/{UNIT}"), f"etc/systemd/system/{UNIT}": mask}
    )
    assert (found.how, found.by) == ("masked", (f"/etc/systemd/system/{UNIT}",))
    assert rules.program(found) is None


def test_the_first_unit_that_is_there_counts():
    files = SYSTEMD | {"usr/lib/systemd/system/hypervkvpd.service": UNIT_TEXT}
    assert start(files, ("a.service", "hypervkvpd.service"))[1].unit == "hypervkvpd.service"
    assert start(files, ("a.service",))[1].unit is None


def test_a_system_without_one_usr():
    files = {
        "sbin/init": Link("/lib/systemd/systemd"),
        "lib/systemd/systemd": "x",
        f"lib/systemd/system/{UNIT}": UNIT_TEXT,
        "lib/udev/rules.d/60-hyperv-daemons.rules": f'ENV{{SYSTEMD_WANTS}}+="{UNIT}"\n',
    }
    _, found = start(files)
    assert (found.how, found.unit_path) == ("device", f"/lib/systemd/system/{UNIT}")


def test_every_service():
    link = f"etc/systemd/system/multi-user.target.wants/{UNIT}"
    files = SYSTEMD | {
        VENDOR: UNIT_TEXT,
        link: Link("x"),
        "usr/lib/systemd/system/getty@.service": "x",
        "usr/lib/systemd/system/static.service": "x",
        "etc/systemd/system/off.service": Link("/dev/null"),
    }
    rules, _ = start(files)
    assert {(one.unit, one.how) for one in rules.services()} == {
        (UNIT, "boot"),
        ("static.service", "no"),
        ("off.service", "masked"),
    }


def test_scripts_of_system_v():
    files = {
        "sbin/init": "elf",
        "etc/inittab": "",
        "etc/init.d/hypervkvpd": "#!/bin/sh",
        "etc/rc.d/rc3.d/S90hypervkvpd": Link("../init.d/hypervkvpd"),
        "etc/rc5.d/K10hv-kvp-daemon": Link("x"),
    }
    rules, found = start(files, (UNIT, "hypervkvpd.service"))
    assert rules.init == "sysv"
    assert (found.how, found.by, found.unit) == ("boot", ("/etc/rc.d/rc3.d/S90hypervkvpd",), "hypervkvpd")
    del files["etc/rc.d/rc3.d/S90hypervkvpd"]
    _, found = start(files, (UNIT, "hypervkvpd.service"))
    assert (found.how, found.unit_path) == ("no", "/etc/init.d/hypervkvpd")


def test_openrc():
    files = {
        "sbin/init": Link("/bin/busybox"),
        "bin/busybox": "x",
        "sbin/openrc": "x",
        "etc/init.d/hv_kvp_daemon": "#!",
        "etc/runlevels/default/hv_kvp_daemon": Link("/etc/init.d/hv_kvp_daemon"),
    }
    rules, found = start(files, (UNIT, "hv_kvp_daemon.service"))
    assert rules.init == "openrc"
    assert (found.how, found.by) == ("boot", ("/etc/runlevels/default/hv_kvp_daemon",))


def test_upstart():
    files = {
        "sbin/init": "elf",
        "sbin/initctl": "x",
        "etc/init/hv-kvp-daemon.conf": "description x\nstart on runlevel [2345]\n",
    }
    rules, found = start(files)
    assert rules.init == "upstart"
    assert found.how == "boot"
    assert start(files | {"etc/init/hv-kvp-daemon.override": "manual\n"})[1].how == "no"


def test_a_tree_without_an_init_is_read_as_one_with_systemd():
    rules, found = start({f"lib/systemd/system/{UNIT}": UNIT_TEXT})
    assert rules.init is None
    assert (found.how, found.unit) == ("no", UNIT)
