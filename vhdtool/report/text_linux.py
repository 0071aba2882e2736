"""The part of ``inspect`` for people that only a Linux guest has."""

from __future__ import annotations

from collections.abc import Iterator

from vhdtool.guest.linux_model import LinuxFacts, LinuxKernel
from vhdtool.report.blocks import Block, Cell, Heading, Line, Table

_NONE = Cell("-", "dim")
MOST_PAIRS = 12
"""Pairs of a pool that are shown; the document has more."""


def linux_fields(linux: LinuxFacts) -> Iterator[tuple[str, Cell]]:
    """What belongs to the first lines of a guest: packages, where it ran, volumes that it misses."""
    daemons = {f"{fact.package.name} {fact.package.version}": None for fact in linux.daemons if fact.package}
    if daemons:
        yield ("Daemons from", Cell(", ".join(daemons)))
    if linux.boot_source is not None:
        yield ("Kernel chosen by", Cell(linux.boot_source))
    host = linux.kvp_host
    if host is not None:
        name = host.physical_host_name or host.host_name
        machine = host.virtual_machine_name or host.virtual_machine_id
        told = [f"on {name}" if name else "", f"as {machine}" if machine else ""]
        yield ("Last ran", Cell(" ".join(filter(None, told)) or f"on Windows {host.system_version}"))
    for mount in linux.mounts:
        if mount.volume is None:
            yield ("Not here", Cell(f"{mount.path} ({mount.device})", "warn"))
        else:
            below = "" if mount.base == "/" else f", {mount.base}"
            yield ("Mounted", Cell(f"{mount.path}: volume {mount.volume}{below}", "dim"))


def linux_blocks(linux: LinuxFacts) -> Iterator[Block]:
    """Show the kernels, and what host and guest last told each other."""
    if linux.kernels:
        yield Heading("Kernels")
        yield Table(
            ("Release", "Starts", "Image", "Initramfs", "Package"),
            tuple(_kernel_row(kernel) for kernel in linux.kernels),
            fold=frozenset({"Image", "Initramfs", "Package"}),
        )
    pairs = [(pool, record) for pool in linux.kvp_pools for record in pool.records[:MOST_PAIRS]]
    if pairs:
        yield Heading("Key-value pairs")
        yield Table(
            ("Pool", "Key", "Value"),
            tuple((Cell(pool.name), Cell(record.key), Cell(record.value)) for pool, record in pairs),
            cut=frozenset({"Value"}),
        )
    for pool in linux.kvp_pools:
        if pool.count > MOST_PAIRS:
            yield Line(Cell(f"  {pool.name}: {pool.count - MOST_PAIRS} more, see --json", "dim"))


def _kernel_row(kernel: LinuxKernel) -> tuple[Cell, ...]:
    initramfs = _NONE
    if kernel.initramfs is not None:
        packed = f" ({kernel.initramfs.compression})" if kernel.initramfs.compression else ""
        initramfs = Cell(f"{kernel.initramfs.path}{packed}", "" if kernel.initramfs.modules is not None else "warn")
    package = kernel.package
    return (
        Cell(kernel.release, "strong" if kernel.default else ""),
        Cell("yes", "good") if kernel.default else Cell("no", "dim"),
        Cell(kernel.image) if kernel.image else _NONE,
        initramfs,
        Cell(f"{package.name} {package.version}") if package else _NONE,
    )
