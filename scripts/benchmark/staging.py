"""Packages: ``cab show``, ``cab verify``, and ``stage --child`` of a genuine cabinet, against virt-customize.

The genuine cabinet comes from the collection of real files.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from scripts.benchmark.measure import VHDTOOL, Median, Sample, interleaved, run_command, timed
from scripts.benchmark.tools import BenchmarkError, call, real_file, say
from scripts.fixtures.cab_files import LZX, CabFile, CabFolder, build_cab
from scripts.fixtures.pe_image import resource_library

CABINET = "cab/marcinbojko__hvintegrationservices/Windows6.2-HyperVIntegrationServices-x64.cab"
PARENT = "Microsoft-Hyper-V-Guest-Integration-Drivers-Package~31bf3856ad364e35~amd64~~6.3.9600.16384"
VERSION_KEY = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
PACKAGES_KEY = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
SERVER_2012_R2 = rf"""Windows Registry Editor Version 5.00

[{VERSION_KEY}]
"ProductName"="Windows Server 2012 R2 Standard"
"CurrentVersion"="6.3"
"CurrentBuild"="9600"
"CurrentBuildNumber"="9600"
"EditionID"="ServerStandard"
"InstallationType"="Server"
"CurrentMajorVersionNumber"=-
"CurrentMinorVersionNumber"=-

[{PACKAGES_KEY}\{PARENT}]
"CurrentState"=dword:00000070

[-HKEY_LOCAL_MACHINE\SYSTEM\DriverDatabase]
"""
"""What makes the lifelike guest, whose hives are those of a Windows 10, one that the genuine cabinet is for."""
MANY, FEW = 2000, 200
FILE_SIZE = 2048


def guest(folder: Path, lifelike: Path) -> Path:
    """Make the guest that is staged into, standalone: virt-customize opens no differencing VHDX."""
    image = folder / "server-2012-r2.vhdx"
    if image.exists():
        return image
    say("making the guest that is staged into")
    changes, child, program = folder / "server-2012-r2.reg", folder / "identity.vhdx", folder / "cmd.exe"
    changes.write_text(SERVER_2012_R2, encoding="ascii")
    # virt-customize takes a guest for Windows by this file, and its architecture from it
    program.write_bytes(resource_library("cmd.exe", "6.3.9600.16384", description="Windows Command Processor"))
    child.unlink(missing_ok=True)
    call(*VHDTOOL, "reg", "import", lifelike, changes, "--child", child)
    call(*VHDTOOL, "put", child, program, "/Windows/System32/cmd.exe", "--output", image)
    for path in (changes, child, program):
        path.unlink()
    return image


def stage_runs(folder: Path, image: Path, runs: int) -> Median:
    """``stage --child``, verification and opinions included."""
    child = folder / "staged.vhdx"
    say("measuring stage --child")
    command = [*VHDTOOL, "stage", str(image), "--cab", str(real_file(CABINET)), "--child", str(child), "--json"]

    def stage() -> Sample:
        child.unlink(missing_ok=True)
        return run_command(command)

    median = interleaved({"stage": stage}, runs)["stage"]
    child.unlink()
    return median


def customize_runs(folder: Path, image: Path, runs: int) -> tuple[Median, str] | None:
    """``virt-customize --upload`` of the same cabinet, into an overlay; None where it does not run here.

    It uploads alone: ``--firstboot`` in a Windows needs a program that Debian 12 has no package of. Tells also how the
    appliance ran.
    """
    if shutil.which("virt-customize") is None:
        return None
    overlay = folder / "customized.qcow2"

    def customize(settings: str) -> Sample:
        overlay.unlink(missing_ok=True)
        call("qemu-img", "create", "-q", "-f", "qcow2", "-F", "vhdx", "-b", image, overlay)
        upload = f"{real_file(CABINET)}:/Windows/package.cab"
        command = ["env", "LIBGUESTFS_BACKEND=direct", f"LIBGUESTFS_BACKEND_SETTINGS={settings}"]
        command += ["virt-customize", "--quiet", "--no-network", "-a", str(overlay), "--upload", upload]
        return run_command(command)

    for settings, how in (("", "with KVM"), ("force_tcg", "without KVM")):
        try:
            customize(settings)
        except BenchmarkError:
            continue
        say(f"measuring virt-customize, {how}")
        median = interleaved({"customize": partial(customize, settings)}, runs)["customize"]
        overlay.unlink()
        return median, how
    overlay.unlink(missing_ok=True)
    return None


def cabinet_runs(runs: int) -> dict[str, Median]:
    """``cab show`` and ``cab verify`` of the genuine cabinet, as processes."""
    cabinet = str(real_file(CABINET))
    say("measuring cab show and cab verify")
    contestants = {
        "cab show": partial(run_command, [*VHDTOOL, "cab", "show", cabinet, "--json"]),
        "cab verify": partial(run_command, [*VHDTOOL, "cab", "verify", cabinet, "--json"]),
    }
    return interleaved(contestants, runs)


def many_files_ratio(folder: Path, runs: int) -> tuple[float, Median, Median]:
    """What 2,000 files in one folder cost against 200, all read once."""
    from vhdtool.bytesource import BytesSource  # noqa: PLC0415  # not for the other parts
    from vhdtool.package.cabinet import Cabinet  # noqa: PLC0415

    cabinets = {}
    for count in (FEW, MANY):
        files = [
            CabFile(f"file{number}.bin", number.to_bytes(4, "little") * (FILE_SIZE // 4)) for number in range(count)
        ]
        path = folder / f"{count}.cab"
        path.write_bytes(build_cab([CabFolder(files, LZX)]))
        call("cabextract", "-q", "-t", path)
        cabinets[str(count)] = path.read_bytes()
        path.unlink()

    def read(data: bytes) -> None:
        for _ in Cabinet.open(BytesSource(data), path="many.cab").read_all():
            pass

    medians = interleaved(
        {name: lambda data=data: timed(lambda: read(data)) for name, data in cabinets.items()},  # type: ignore[misc]
        runs,
    )
    return medians[str(MANY)].seconds / medians[str(FEW)].seconds, medians[str(FEW)], medians[str(MANY)]
