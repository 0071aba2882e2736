"""The committed fixtures are what the script builds, and say what their README says they say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from Registry import Registry, RegistryLog

import vhdtool
from scripts.fixtures import build, demo_update
from scripts.fixtures.hive_files import hive_bytes
from scripts.fixtures.packing import packed, unpacked
from scripts.fixtures.server_2012_r2 import VERSION, system_tree
from scripts.fixtures.template_volume import MARKED_FILES, TEMPLATE_512, TEMPLATES, TemplateError, fill, load
from tests.cli.harness import run as run_vhdtool
from tests.fixtures import FOLDER, fixture_file
from tests.tools import require_tool, run
from vhdtool.guest.model import Guest

CLEAN_GUESTS = ("windows-guest.vhdx", "windows-guest.vhd", "windows-guest-4kn.vhdx")
CHILDREN = ("windows-guest-child.vhdx", "windows-guest-child.vhd")


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return {name: make() for name, make in build.fixtures().items()}


def test_every_fixture_is_what_the_script_builds(built: dict[str, bytes]) -> None:
    different = [name for name, content in built.items() if fixture_file(name).read_bytes() != content]
    assert different == []


def test_building_again_gives_the_same_bytes(built: dict[str, bytes]) -> None:
    assert {name: build.digest(make()) for name, make in build.fixtures().items()} == {
        name: build.digest(content) for name, content in built.items()
    }


@pytest.mark.parametrize("name", demo_update.PLAIN_FIXTURES)
def test_every_plain_fixture_is_what_the_script_builds(name: str) -> None:
    committed = (FOLDER / name).read_bytes()
    assert demo_update.PLAIN_FIXTURES[name]() == committed
    assert len(committed) < 64 << 10
    assert f"`{name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_no_plain_fixture_is_left_over() -> None:
    others = {"README.md", "__init__.py"} | set(demo_update.PLAIN_FIXTURES)
    assert {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".xz"} == others


def test_demo_update_is_whole_trusted_and_newer_than_the_guest() -> None:
    cab, root = FOLDER / "demo-update.cab", FOLDER / "test-root.pem"
    verified = run_vhdtool("cab", "verify", str(cab), "--trust-root", str(root), "--json")
    assert verified.code == 0, verified.stderr
    assert run_vhdtool("cab", "verify", str(cab)).code == 1, "nobody trusts it without that root"
    found = run_vhdtool("cab", "find", str(fixture_file("demo.vhdx")), str(cab), "--json")
    assert "1 of 1 packages fit" in run_vhdtool("cab", "find", str(fixture_file("demo.vhdx")), str(cab)).text
    assert '"6.3.9600.20000"' in found.text


def test_readme_names_every_file_and_no_other() -> None:
    listed = {f"{name}.xz" for name in build.fixtures()} | {template.file_name for template in TEMPLATES}
    assert {path.name for path in FOLDER.glob("*.xz")} == listed
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(listed) if f"`{name.removesuffix('.xz')}`" not in readme] == []


def test_images_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.xz")}
    assert max(sizes.values()) < 64 << 10, sizes


def test_packing_gives_the_content_back() -> None:
    content = bytes(range(256)) * 64
    assert unpacked(packed(content)) == content


def test_templates_hold_nothing_but_marks() -> None:
    for template in TEMPLATES:
        emptied = fill(load(FOLDER, template), {})
        assert b"vhdtool fixture cluster" not in emptied


def test_template_refuses_what_does_not_fit() -> None:
    volume = load(FOLDER, TEMPLATE_512)
    name, size = next(iter(MARKED_FILES.items()))
    with pytest.raises(TemplateError, match="holds"):
        fill(volume, {name: bytes(size + 1)})
    with pytest.raises(TemplateError, match="no nowhere"):
        fill(volume, {"nowhere": b""})
    with pytest.raises(TemplateError, match="marks"):
        fill(bytes(8192), {})


def only_guest(name: str) -> Guest:
    with vhdtool.open_image(fixture_file(name)) as image:
        (guest,) = image.guests
    return guest


def starts(guest: Guest) -> dict[str, int | None]:
    return {service.name: service.start_value for service in (*guest.services, *guest.drivers)}


@pytest.mark.parametrize("name", CLEAN_GUESTS)
def test_clean_guest(name: str) -> None:
    guest = only_guest(name)
    assert guest.os.product == "Windows Server 2012 R2 Standard"
    assert (guest.os.version, guest.os.architecture, guest.os.install_state) == ("6.3.9600", "amd64", "complete")
    assert (guest.integration_services.version, guest.integration_services.agreement) == (VERSION, "agree")
    assert {hive.state for hive in guest.hives} == {"clean"}
    assert {service.status for service in guest.services} <= {"ok", "not-offered"}
    assert starts(guest)["vmickvpexchange"] == 3
    names = {service.name: service.display_name for service in guest.services}
    assert names["vmickvpexchange"] == "Hyper-V Data Exchange Service"


@pytest.mark.parametrize("name", CHILDREN)
def test_child_over_its_parent(name: str) -> None:
    fixture_file(name.replace("-child", ""))  # the parent, unpacked beside the child
    guest = only_guest(name)
    assert (starts(guest)["vmicvss"], starts(guest)["vmicguestinterface"]) == (4, 2)
    assert starts(guest)["vmickvpexchange"] == 3
    assert guest.integration_services.version == VERSION


def test_demo_needs_both_of_its_logs() -> None:
    with vhdtool.open_image(fixture_file("demo.vhdx")) as image:
        assert image.disk.info.log == "replayed"
        (guest,) = image.guests
    assert {Path(hive.path).name: hive.state for hive in guest.hives}["SYSTEM"] == "recovered"
    assert (guest.integration_services.version, guest.integration_services.agreement) == (VERSION, "agree")
    services = {service.name: service for service in (*guest.services, *guest.drivers)}
    assert services["vmickvpexchange"].start == "disabled"
    assert services["storvsc"].start_override == 3


def test_hive_writer_against_python_registry() -> None:
    written = system_tree(starts={"vmicvss": 4})
    registry = Registry.Registry(io.BytesIO(hive_bytes(written, "SYSTEM")))
    found = {}
    for path in written:
        key = registry.open(path)
        found[path] = {value.name().replace("(default)", ""): _without_end(value.value()) for value in key.values()}
    expected = {
        path: {
            name: list(data.content) if isinstance(data.content, tuple) else data.content
            for name, data in values.items()
        }
        for path, values in written.items()
    }
    assert found == expected


def _without_end(value: object) -> object:
    """Drop what python-registry makes of the two NULs that end a REG_MULTI_SZ."""
    return [text for text in value if text] if isinstance(value, list) else value


def test_hive_writer_splits_long_lists_of_subkeys() -> None:
    tree = {f"many\\key {number}": {} for number in range(3000)}
    registry = Registry.Registry(io.BytesIO(hive_bytes(tree, "SYSTEM")))
    names = [key.name() for key in registry.open("many").subkeys()]
    assert sorted(names) == sorted(path.partition("\\")[2] for path in tree)
    assert names == sorted(names, key=str.upper)


def test_stale_hive_of_the_demo_is_the_one_python_registry_recovers() -> None:
    from scripts.fixtures.guest_files import CONFIG, demo_guest  # noqa: PLC0415

    files = demo_guest()
    hive = io.BytesIO(files[f"{CONFIG}/SYSTEM"])
    path = "ControlSet001\\Services\\vmickvpexchange"
    assert Registry.Registry(io.BytesIO(hive.getvalue())).open(path).value("Start").value() == 3
    RegistryLog.RegistryLog(hive, io.BytesIO(files[f"{CONFIG}/SYSTEM.LOG1"])).recover_hive()
    assert Registry.Registry(io.BytesIO(hive.getvalue())).open(path).value("Start").value() == 4


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["windows-guest.vhdx", "windows-guest.vhd"])
def test_qemu_reads_the_same_disk(tmp_path: Path, name: str) -> None:
    require_tool("qemu-img")
    raw = tmp_path / "raw"
    run("qemu-img", "convert", "-O", "raw", str(fixture_file(name)), str(raw))
    with vhdtool.open_image(fixture_file(name)) as image:
        assert image.disk.read_at(0, image.disk.size) == raw.read_bytes()


@pytest.mark.oracle
def test_qemu_finds_the_demos_log_and_reads_the_same_after_applying_it(tmp_path: Path) -> None:
    require_tool("qemu-img")
    copy, raw = tmp_path / "demo.vhdx", tmp_path / "raw"
    copy.write_bytes(fixture_file("demo.vhdx").read_bytes())
    refused = run("qemu-img", "convert", "-O", "raw", str(copy), str(raw), check=False)
    assert b"log that needs to be replayed" in refused.stderr
    run("qemu-img", "check", "-r", "all", str(copy))
    run("qemu-img", "convert", "-O", "raw", str(copy), str(raw))
    with vhdtool.open_image(fixture_file("demo.vhdx")) as image:
        assert image.disk.read_at(0, image.disk.size) == raw.read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "format_name"), [(CHILDREN[0], "VHDX"), (CHILDREN[1], "VHD")])
def test_7zip_reads_the_same_child(name: str, format_name: str) -> None:
    require_tool("7zz")
    fixture_file(name.replace("-child", ""))
    done = run("7zz", "e", f"-t{format_name}", "-so", str(fixture_file(name)))
    with vhdtool.open_image(fixture_file(name)) as image:
        assert image.disk.read_at(0, image.disk.size) == done.stdout


@pytest.mark.oracle
def test_foreign_tools_make_a_template_that_works() -> None:
    from scripts.fixtures.template_volume import make_with_foreign_tools  # noqa: PLC0415

    require_tool("mkntfs")
    require_tool("wimlib-imagex")
    name = "Windows/System32/icsvc.dll"
    filled = fill(make_with_foreign_tools(TEMPLATE_512), {name: b"content of a fixture"})
    assert filled.count(b"content of a fixture") == 1
