"""Guests of real hives, changed by the command line and judged by foreign programs alone.

Containers: qemu-img (check, convert) and 7-Zip. The volume: ntfsfix, ntfsinfo, fsstat, fls, ntfscat, icat. The hive:
hivex and python-registry, on the bytes that ntfscat takes out of the volume that qemu-img or 7-Zip gave.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from Registry import Registry

from tests.cli.changing import changed
from tests.data_files import data_file
from tests.guests import HIVEX_PYTHON, TOOLS, build_guest, call, has_hivex, software_hive
from tests.tools import require_ntfs_writer, require_tool, run

pytestmark = [pytest.mark.oracle, pytest.mark.data]

JUDGES = ("7zz", "qemu-img", "ntfsfix", "ntfsinfo", "ntfscat", "fsstat", "fls", "icat")
MINIMAL = "hives/libguestfs__hivex/minimal"
HIVES = {
    "Windows 10, clean": ("hives/fox-it__dissect.regf/SYSTEM.gz", {}, ("6.3", "19041")),
    "Windows 7, clean": ("hives/mkorman90__regipy/SYSTEM.xz", {}, ("6.1", "7601")),
}
SERVICE = "W32Time"
MIB = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    for tool in (*TOOLS, *JUDGES):
        require_tool(tool)
    if not has_hivex():
        pytest.skip("python3-hivex is not installed")
    require_ntfs_writer()


def guest(folder: Path, hives: str, container: str, **options: object) -> Path:
    system, logs, (version, build) = HIVES[hives]
    software = software_hive(
        data_file(MINIMAL), folder / "SOFTWARE", product="Windows", version=version, build=build, edition="Professional"
    )
    return build_guest(
        folder,
        system_hive=data_file(system),
        software_hive=software,
        logs={name: data_file(log) for name, log in logs.items()},
        container=container,
        **options,  # type: ignore[arg-type]
    )


def raw_of(image: Path) -> Path:
    """The disk as qemu-img reads it; of a child, which it can't, as 7-Zip does."""
    raw = image.with_suffix(".judged")
    raw.unlink(missing_ok=True)
    if image.suffix == ".vhdx":
        checked = run("qemu-img", "check", "-f", "vhdx", "--output=json", str(image), check=False)
        if checked.returncode == 0:
            facts = json.loads(checked.stdout)
            assert not facts.get("corruptions"), facts
            call("qemu-img", "convert", "-f", "vhdx", "-O", "raw", image, raw)
            return raw
    elif image.name != "child.vhd":
        call("qemu-img", "convert", "-f", "vpc", "-O", "raw", image, raw)
        return raw
    done = run("7zz", "e", "-so", f"-t{image.suffix[1:]}", str(image), check=False, timeout=600)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    raw.write_bytes(done.stdout)
    return raw


def windows_volume(image: Path) -> Path:
    """The NTFS volume of the disk, cut out by the partition table that sgdisk prints."""
    raw = raw_of(image)
    volume = image.with_suffix(".volume")
    printed = call("sgdisk", "-p", raw).decode()
    rows = [line.split() for line in printed.splitlines() if line.strip()[:1].isdigit()]
    start, end = max(((int(row[1]), int(row[2])) for row in rows), key=lambda span: span[1] - span[0])
    with raw.open("rb") as source, volume.open("wb") as target:
        source.seek(start * 512)
        left = (end + 1 - start) * 512
        while left:
            piece = source.read(min(MIB, left))
            if not piece:
                break
            target.write(piece)
            left -= len(piece)
    raw.unlink()
    return volume


def judged_sound(volume: Path) -> None:
    fixed = run("ntfsfix", "-n", str(volume), check=False)
    assert fixed.returncode == 0, fixed.stdout.decode()
    assert b"NTFS volume version is 3.1" in fixed.stdout
    assert run("ntfsinfo", "-m", str(volume)).returncode == 0
    assert b"File System Type: NTFS" in run("fsstat", str(volume)).stdout
    tested = run("7zz", "t", "-tntfs", str(volume), check=False, timeout=600)
    assert tested.returncode == 0, tested.stdout.decode()[-500:]


def stored(volume: Path, path: str) -> bytes:
    """A file as ntfscat reads it, and as the Sleuth Kit does."""
    content = run("ntfscat", str(volume), path).stdout
    listed = run("fls", "-r", "-p", "-F", str(volume)).stdout.decode().splitlines()
    places = [line.split(":\t")[0].split()[-1] for line in listed if line.split(":\t")[-1] == path.strip("/")]
    assert places, f"fls does not list {path}"
    assert run("icat", str(volume), places[0]).stdout == content
    return content


def hivex_start(hive: Path, service: str) -> int:
    code = (
        "import hivex,sys\n"
        "h=hivex.Hivex(sys.argv[1]);n=h.root()\n"
        "for p in ('ControlSet001','Services',sys.argv[2]): n=h.node_get_child(n,p)\n"
        "print(h.value_dword(h.node_get_value(n,'Start')))\n"
    )
    return int(call(HIVEX_PYTHON, "-c", code, hive, service))


def registry_start(hive: Path, service: str) -> int:
    return int(Registry.Registry(str(hive)).open(rf"ControlSet001\Services\{service}").value("Start").value())


def judged_start(image: Path, folder: Path) -> tuple[int, int]:
    volume = windows_volume(image)
    judged_sound(volume)
    hive = folder / "SYSTEM.judged"
    hive.write_bytes(stored(volume, "/Windows/System32/config/SYSTEM"))
    volume.unlink()
    return hivex_start(hive, SERVICE), registry_start(hive, SERVICE)


def targets(image: Path) -> dict[str, Sequence[str]]:
    folder = image.parent
    return {
        "child": ["--child", str(folder / f"child{image.suffix}")],
        "output": ["--output", str(folder / f"output{image.suffix}")],
        "in-place": ["--in-place", "--no-children"],
    }


@pytest.mark.parametrize("hives", HIVES)
@pytest.mark.parametrize(
    ("container", "options"), [("vhdx", {}), ("vhd", {}), ("vhdx", {"options": "subformat=fixed"})]
)  # fmt: skip
def test_start_of_a_service_is_read_by_all(tmp_path, hives, container, options):
    image = guest(tmp_path, hives, container, **options)
    for target, words in targets(image).items():
        document = changed("services", "set", image, f"{SERVICE}=disabled", "--force", *words)
        assert document["changed"], target
        written = Path(document["receipt"]["path"])
        assert judged_start(written, tmp_path) == (4, 4), target
        if written != image:
            written.unlink()


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_big_registry_import_and_files_on_clusters_of_each_size(tmp_path, cluster_size):
    image = guest(tmp_path, "Windows 7, clean", "vhdx", cluster_size=cluster_size, free_space=96 * MIB)
    lines = ["Windows Registry Editor Version 5.00", ""]
    for number in range(600):
        lines += [rf"[HKEY_LOCAL_MACHINE\SYSTEM\ControlSet001\Services\Contoso{number:04d}\Größe]"]
        lines += [f'"Value"="{"x" * 9000}"', f'"Number"=dword:{number:08x}', ""]
    file = tmp_path / "many.reg"
    file.write_text("\r\n".join(lines), encoding="utf-16", newline="")
    before = data_file(HIVES["Windows 7, clean"][0]).stat().st_size
    changed("reg", "import", image, file, "--in-place")
    content = bytes(range(256)) * 40_000
    source = tmp_path / "payload.bin"
    source.write_bytes(content)
    changed("mkdir", image, "/Program Files/Contoso/Größe", "--parents", "--in-place")
    changed("put", image, source, "/Program Files/Contoso/Größe/", "--in-place")
    volume = windows_volume(image)
    judged_sound(volume)
    hive = tmp_path / "SYSTEM.judged"
    hive.write_bytes(stored(volume, "/Windows/System32/config/SYSTEM"))
    assert hive.stat().st_size > before, "the hive had to grow, and its file with it"
    assert hashlib.sha256(stored(volume, "/Program Files/Contoso/Größe/payload.bin")).digest() == (
        hashlib.sha256(content).digest()
    )
    services = Registry.Registry(str(hive)).open(r"ControlSet001\Services")
    contoso = {key.name(): key for key in services.subkeys() if key.name().startswith("Contoso")}
    assert len(contoso) == 600
    assert contoso["Contoso0599"].subkey("Größe").value("Number").value() == 599
    code = (
        "import hivex,sys\n"
        "h=hivex.Hivex(sys.argv[1]);n=h.root()\n"
        "for p in ('ControlSet001','Services'): n=h.node_get_child(n,p)\n"
        "print(sum(h.node_name(c).startswith('Contoso') for c in h.node_children(n)))\n"
    )
    assert int(call(HIVEX_PYTHON, "-c", code, hive)) == 600
    assert run("hivexml", str(hive)).returncode == 0
    changed("rm", image, "/Program Files/Contoso", "--recursive", "--in-place")
    volume = windows_volume(image)
    judged_sound(volume)
    assert "Contoso" not in run("fls", "-u", "-r", "-p", "-F", str(volume)).stdout.decode()
