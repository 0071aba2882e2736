"""Reading one GiB of data from a dynamic VHDX from its start to its end, by us and by everyone else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from scripts.benchmark.measure import Sample, run_command, timed
from scripts.benchmark.tools import call

MIB = 1 << 20
DATA = 1024 * MIB


def build_image(folder: Path) -> Path:
    """Write a 2 GiB dynamic VHDX whose first GiB is random data."""
    image = folder / "sequential.vhdx"
    if image.exists():
        return image
    raw = folder / "sequential.raw"
    with Path("/dev/urandom").open("rb") as noise, raw.open("wb") as file:
        for _ in range(DATA // (8 * MIB)):
            file.write(noise.read(8 * MIB))
        file.truncate(2 * DATA)
    call("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=16M", raw, image)
    raw.unlink()
    return image


def contestants(image: Path) -> dict[str, Callable[[], Sample]]:
    """Give the readers by name; each reads the GiB once in 1 MiB pieces."""
    reads = [word for offset in range(0, DATA, MIB) for word in ("-c", f"read -q {offset} {MIB}")]
    qemu_io = ["qemu-io", "-r", "-f", "vhdx", *reads, str(image)]
    return {
        "cat FILE": lambda: timed(lambda: subprocess.run(("cat", str(image)), stdout=subprocess.DEVNULL, check=True)),
        "vhdtool": lambda: timed(lambda: _read_ours(image)),
        "pyvhdi": lambda: timed(lambda: _read_pyvhdi(image)),
        "dissect.hypervisor": lambda: timed(lambda: _read_dissect(image)),
        "qemu-io": lambda: run_command(qemu_io),
    }


def _read_ours(image: Path) -> None:
    from vhdtool.disk.chain import open_disk  # noqa: PLC0415  # the builder must work without the package

    buffer = memoryview(bytearray(MIB))
    with open_disk(image) as disk:
        for offset in range(0, DATA, MIB):
            disk.read_into(offset, buffer)


def _read_pyvhdi(image: Path) -> None:
    import pyvhdi  # noqa: PLC0415

    file = pyvhdi.file()
    file.open(str(image))
    for offset in range(0, DATA, MIB):
        file.read_buffer_at_offset(MIB, offset)
    file.close()


def _read_dissect(image: Path) -> None:
    from dissect.hypervisor import vhdx  # noqa: PLC0415

    with image.open("rb") as file:
        disk = vhdx.VHDX(file)
        for offset in range(0, DATA, MIB):
            disk.seek(offset)
            disk.read(MIB)
