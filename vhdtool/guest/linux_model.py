"""What is known of a Linux guest beside the facts that it shares with Windows: the ``linux`` part of a guest.

Unknown is ``None``, never a guess. Paths are those of the running guest, whichever volume they lie on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DaemonStart = Literal["boot", "device", "no", "masked", "unknown"]
"""How a daemon starts: with the system; when the host offers the device that it serves; not at all; never."""

PackageManager = Literal["dpkg", "rpm", "apk"]


@dataclass(frozen=True, slots=True)
class LinuxMount:
    """A directory that is a volume of its own, as ``/etc/fstab`` says it.

    ``volume`` is ``None`` where no volume of the image fits ``device``. ``base`` is the directory of that volume which
    is mounted: a subvolume of Btrfs, else ``/``.
    """

    path: str
    device: str
    volume: int | None
    base: str


@dataclass(frozen=True, slots=True)
class LinuxPackage:
    """An installed package. ``state`` as its database says it, ``None`` where it is simply installed."""

    name: str
    version: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class LinuxModule:
    """A kernel module of Hyper-V, in one kernel. Names have ``_`` where files have ``-``.

    ``built_in`` is ``None`` where neither a list nor a configuration of the kernel tells. ``in_initramfs`` is ``None``
    where the kernel has none that could be read. ``blocked`` says what keeps it from loading, ``loaded_by`` what names
    it to be loaded. ``version`` is what the module itself calls so; most modules of the kernel have none.
    """

    name: str
    built_in: bool | None
    path: str | None
    in_initramfs: bool | None
    version: str | None
    vermagic: str | None
    srcversion: str | None
    blocked: tuple[str, ...]
    loaded_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinuxInitramfs:
    """An initramfs. ``compression`` of its main part: none, gzip, bzip2, lzma, xz, lz4, zstd.

    ``modules`` names the Hyper-V modules that it holds for this kernel; ``None``: it could not be read to its end.
    """

    path: str
    size: int
    compression: str | None
    modules: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class LinuxKernel:
    """One installed kernel. ``release`` is what ``uname -r`` says; ``default``: this one starts.

    ``image_release`` is the release that the kernel image itself names.
    """

    release: str
    default: bool
    image: str | None
    image_release: str | None
    modules_directory: str | None
    config: str | None
    initramfs: LinuxInitramfs | None
    package: LinuxPackage | None
    command_line: str | None
    command_line_source: str | None
    modules: tuple[LinuxModule, ...]


@dataclass(frozen=True, slots=True)
class LinuxDaemonFact:
    """A daemon of the integration services. ``service`` is the Windows service that does the same.

    ``program`` is what runs in the default kernel, where a script (``path``) chooses by the kernel. ``started_by``
    lists what starts it: links, rules, scripts.
    """

    name: str
    service: str
    path: str | None
    program: str | None
    package: LinuxPackage | None
    unit: str | None
    start: DaemonStart
    started_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinuxHelper:
    """A script that the key-value daemon calls to tell or set the network."""

    name: str
    path: str | None


@dataclass(frozen=True, slots=True)
class KvpRecord:
    """One pair of a pool. What is not UTF-8 has replacement characters."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class KvpPool:
    """A pool of key-value pairs as the daemon left it on disk; ``records`` are the first ones, ``count`` is of all.

    ``name``: external (from the host's administrator), guest (for the host to read), auto (what the guest tells of
    itself), auto-external (what the host tells of itself), auto-internal.
    """

    number: int
    name: str
    path: str
    count: int
    records: tuple[KvpRecord, ...]


@dataclass(frozen=True, slots=True)
class KvpHost:
    """What the host last told the guest: where it runs, and as which virtual machine."""

    host_name: str | None
    physical_host_name: str | None
    virtual_machine_name: str | None
    virtual_machine_id: str | None
    system_version: str | None


@dataclass(frozen=True, slots=True)
class LinuxFacts:
    """The Linux part of a guest. ``boot_source`` is the file that chose the default kernel."""

    init: str | None
    boot_source: str | None
    package_manager: PackageManager | None
    kernels: tuple[LinuxKernel, ...]
    daemons: tuple[LinuxDaemonFact, ...]
    helpers: tuple[LinuxHelper, ...]
    mounts: tuple[LinuxMount, ...]
    kvp_pools: tuple[KvpPool, ...]
    kvp_host: KvpHost | None
