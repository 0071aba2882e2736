"""What to do in a Linux guest, where start types can't be set from outside: the line to type there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vhdtool.errors import NotFoundError
from vhdtool.fs.base import GuestFilesystem
from vhdtool.guest.service_change import integration_component
from vhdtool.knowledge.linux_daemons import LinuxDaemon, daemon_package, linux_daemons

RELEASE_FILES = ("/etc/os-release", "/usr/lib/os-release")
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
MOST_BYTES = 64 << 10

_FIELD = re.compile(r"""^(ID|ID_LIKE|PRETTY_NAME)=(["']?)(.*?)\2\s*$""", re.MULTILINE)


def linux_advice(filesystem: GuestFilesystem, requests: Sequence[tuple[str, str]] = ()) -> str | None:
    """Tell how services are turned on in the Linux on this file system; ``None`` where no Linux is on it.

    ``requests`` as of :func:`vhdtool.guest.service_change.plan_service_starts`; without any, all daemons are told.
    The units are those that the guest has; for one that it has not, the package to install is named (os-release(5)).
    """
    release = _release(filesystem)
    if release is None:
        return None
    wanted = [*requests] or [(daemon.service, "auto") for daemon in linux_daemons()]
    return "; ".join(dict.fromkeys(_lines(filesystem, release, wanted)))


def _lines(filesystem: GuestFilesystem, release: dict[str, str], wanted: list[tuple[str, str]]) -> Iterator[str]:
    for name, word in wanted:
        component = integration_component(name)
        service = name if component is None else component.name
        daemon = next((one for one in linux_daemons() if one.service == service), None)
        if daemon is None:
            if component is not None:
                yield f"{name}: in the kernel (module hv_utils), with no service to set"
            continue
        unit = _unit(filesystem, daemon)
        if unit is not None:
            yield f"systemctl {'disable' if word == 'disabled' else 'enable'} {unit}"
        elif word != "disabled":
            package = daemon_package([release.get("ID", ""), *release.get("ID_LIKE", "").split()])
            named = "the package with the Hyper-V daemons" if package is None else f"the package {package}"
            yield f"install {named}, then: systemctl enable {_likely(release, daemon)}"


def _release(filesystem: GuestFilesystem) -> dict[str, str] | None:
    for path in RELEASE_FILES:
        try:
            file = filesystem.open(path)
        except NotFoundError:
            continue
        content = file.read_at(0, min(file.size, MOST_BYTES)).decode("utf-8", errors="replace")
        return {name: value for name, _, value in _FIELD.findall(content)}
    return None


def _unit(filesystem: GuestFilesystem, daemon: LinuxDaemon) -> str | None:
    for folder in UNIT_FOLDERS:
        for unit in daemon.units:
            if filesystem.stat(f"{folder}/{unit}") is not None:
                return unit.removesuffix(".service")
    return None


def _likely(release: dict[str, str], daemon: LinuxDaemon) -> str:
    """The first unit is that of Debian and Ubuntu, the second that of Fedora and its kin, the third all others'."""
    ids = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    place = 0 if ids & {"debian", "ubuntu"} else 1 if ids & {"fedora", "rhel", "centos", "ol"} else 2
    return daemon.units[place].removesuffix(".service")
