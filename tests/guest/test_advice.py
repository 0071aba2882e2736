"""What stands in the way: each obstacle on a guest that has it, and none of them on one that is well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vhdtool.guest.advice import Advice, ImageFacts, advise, newer_exists
from vhdtool.guest.model import Finding, IntegrationServices, Service, VersionEvidence
from vhdtool.knowledge.integration_versions import newest_version
from vhdtool.knowledge.update_matrix import matrix_hosts
from vhdtool.knowledge.windows_names import known_system, known_systems

NEWEST = "6.3.9600.19456"


def integration(version: str | None, source: str = "enum-devices", note: str | None = None) -> IntegrationServices:
    if version is None:
        return IntegrationServices(None, None, "none", ())
    return IntegrationServices(version, source, "single", (VersionEvidence(source, version, "SYSTEM", note),))


KVP = Service(
    name="vmickvpexchange",
    display_name=None,
    display_name_source=None,
    start="auto",
    start_value=2,
    delayed_auto_start=False,
    trigger_start=False,
    start_override=None,
    effective_start="auto",
    expected_start="auto",
    status="ok",
    evidence=(r"SYSTEM\ControlSet001\Services\vmickvpexchange",),
)
WELL = ImageFacts(
    name="guest.vhdx",
    windows=(6, 1, 7601),
    architecture="amd64",
    integration=integration(NEWEST),
    kvp=KVP,
    sha2=True,
    install_state="complete",
    pending=(),
    servicing_pending=False,
    findings=(),
)
OLD = replace(WELL, integration=integration("6.1.7601.17514"))


def on(host: str, guest: str, image: ImageFacts | None = None) -> Advice:
    return advise(known_system(host), known_system(guest), image)


def seven(image: ImageFacts) -> Advice:
    return on("windows-server-2016", "windows-7", image)


def codes(advice: Advice) -> dict[str, tuple[str, ...]]:
    return {one.code: one.blocks for one in advice.obstacles}


def commands(advice: Advice) -> list[str]:
    return [step.command for step in advice.steps if step.command is not None]


def test_a_guest_that_is_well_has_nothing_in_its_way() -> None:
    advice = seven(WELL)
    assert advice.obstacles == ()
    assert advice.newer is False
    assert advice.used is not None
    assert (advice.used.row.mechanism.id, advice.used.revision.id) == ("windows-update", "2020-02")
    assert [step.text.split(":")[0] for step in advice.steps] == ["Nothing to install"]
    assert commands(advice) == []


HIBERNATED = Finding("hibernated", "high", "The guest is hibernated.", "Shut it down.")
BOOT = Finding("boot-driver-overridden", "high", "vmbus starts as manual.", "Delete the value.")
CONFLICT = Finding("integration-version-conflict", "medium", "They contradict each other.", "Install it again.")
DISABLED = replace(KVP, start="disabled", start_value=4, effective_start="disabled", status="disabled")
MISSING = replace(KVP, start=None, start_value=None, effective_start=None, status="not-offered")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (replace(WELL, kvp=DISABLED), {"kvp-disabled": ("windows-update",)}),
        (replace(WELL, kvp=MISSING), {"kvp-missing": ("windows-update",)}),
        (replace(WELL, kvp=replace(KVP, status="no-trigger")), {"kvp-no-trigger": ("windows-update",)}),
        (OLD, {"integration-services-old": ()}),
        (
            replace(OLD, sha2=False),
            {"sha2-missing": ("windows-update", "stage"), "integration-services-old": ()},
        ),
        (replace(WELL, install_state="oobe"), {"image-not-complete": ("stage",)}),
        (
            replace(WELL, pending=("the component store has operations to finish",), servicing_pending=True),
            {"servicing-pending": ("windows-update", "stage")},
        ),
        (replace(WELL, pending=("names to change (1 names)",)), {"servicing-pending": ()}),
        (replace(WELL, findings=(HIBERNATED,)), {"hibernated": ("stage",)}),
        (replace(WELL, findings=(BOOT,)), {"boot-driver-overridden": ("start",)}),
        (replace(WELL, findings=(CONFLICT,)), {"integration-version-conflict": ()}),
    ],
    ids=lambda value: "" if isinstance(value, ImageFacts) else "-".join(value),
)
def test_each_obstacle_on_a_guest_that_has_it(image: ImageFacts, expected: dict[str, tuple[str, ...]]) -> None:
    advice = seven(image)
    assert codes(advice) == expected
    assert all(one.fix for one in advice.obstacles)


def test_without_a_service_pack() -> None:
    bare = replace(WELL, windows=(6, 1, 7600))
    assert codes(on("windows-server-2016", "windows-server-2008-r2", bare)) == {
        "service-pack-missing": ("windows-update", "disk")
    }
    assert codes(on("windows-server-2016", "windows-server-2008-r2", WELL)) == {}
    assert codes(seven(bare)) == {}, "the page has Windows 7 without one"
    vista = replace(WELL, windows=(6, 0, 6001))
    assert "service-pack-missing" in codes(on("windows-8", "windows-vista", vista))
    assert "service-pack-missing" not in codes(on("windows-8", "windows-vista", replace(vista, windows=(6, 0, 6002))))


def test_a_pair_that_no_page_has() -> None:
    advice = on("windows-server-2022", "windows-8", replace(WELL, windows=(6, 2, 9200)))
    assert codes(advice) == {"guest-not-listed": ()}
    assert (advice.listed, advice.used) == (False, None)
    newer = on("windows-server-2016", "windows-server-2025")
    assert codes(newer) == {"host-not-listed": ()}
    assert not newer.listed
    assert codes(on("windows-server-2022", "windows-server-2025")) == {}


def test_what_is_known_against_windows_update() -> None:
    assert codes(on("windows-10", "windows-vista")) == {"windows-update-doubtful": ("windows-update",)}
    assert codes(on("windows-8", "windows-vista")) == {}


def test_data_exchange_matters_only_where_windows_update_asks_it() -> None:
    off = replace(WELL, kvp=DISABLED)
    assert codes(on("windows-8", "windows-7", off)) == {}, "by disk"
    by_rollup = replace(off, windows=(6, 3, 9600))
    assert codes(on("windows-server-2016", "windows-8.1", by_rollup)) == {}
    assert codes(on("windows-server-2016", "windows-8", replace(off, windows=(6, 2, 9200)))) == {
        "kvp-disabled": ("windows-update",)
    }
    assert codes(on("windows-server-2022", "windows-7", off)) == {"kvp-disabled": ("windows-update",)}


def test_disabled_data_exchange_says_why_and_how_to_mend() -> None:
    (obstacle,) = seven(replace(WELL, kvp=DISABLED)).obstacles
    assert "Guest\\Parameters" in obstacle.message
    assert obstacle.fix is not None
    assert obstacle.fix.startswith("vhdtool services set guest.vhdx vmickvpexchange=auto --in-place")


def test_the_finding_of_the_guest_is_not_told_twice() -> None:
    finding = Finding("kvp-disabled", "high", "Data Exchange is disabled.", None)
    advice = seven(replace(WELL, kvp=DISABLED, findings=(finding,)))
    assert [one.code for one in advice.obstacles] == ["kvp-disabled"]


@pytest.mark.parametrize(
    ("host", "guest", "windows", "architecture", "cabinet"),
    [
        ("windows-server-2016", "windows-7", (6, 1, 7601), "amd64", "Windows6.x-HyperVIntegrationServices-x64.cab"),
        ("windows-server-2016", "windows-7", (6, 1, 7601), "x86", "Windows6.x-HyperVIntegrationServices-x86.cab"),
        ("windows-8", "windows-server-2012", (6, 2, 9200), "amd64", "Windows6.2-HyperVIntegrationServices-x64.cab"),
        ("windows-8.1", "windows-8.1", (6, 3, 9600), "x86", "Windows6.2-HyperVIntegrationServices-x86.cab"),
    ],
)
def test_the_cabinet_to_stage(host, guest, windows, architecture, cabinet) -> None:
    image = replace(OLD, windows=windows, architecture=architecture)
    assert [one for one in commands(on(host, guest, image)) if "--cab" in one] == [
        f"vhdtool stage guest.vhdx --cab {cabinet} --child updated.vhdx"
    ]


def test_by_name_both_architectures_are_told() -> None:
    assert [one for one in commands(on("windows-10", "windows-7")) if "--cab" in one] == [
        f"vhdtool stage IMAGE --cab Windows6.x-HyperVIntegrationServices-{one}.cab --child updated.vhdx"
        for one in ("x64", "x86")
    ]
    assert len([one for one in commands(on("windows-10", "windows-server-2008-r2")) if "--cab" in one]) == 1


def test_without_sha2_the_older_package_is_named() -> None:
    told = " ".join(step.text for step in seven(replace(OLD, sha2=False)).steps)
    assert "6.3.9600.18692" in told
    assert NEWEST not in told
    assert NEWEST in " ".join(step.text for step in seven(OLD).steps)


def test_by_disk_and_by_setup_alone() -> None:
    (disk, *_) = on("windows-8", "windows-7", OLD).steps
    assert "Insert Integration Services Setup Disk" in disk.text
    xp = on("windows-10", "windows-xp", replace(WELL, windows=(5, 1, 2600), integration=integration("6.2.9200.16384")))
    assert commands(xp) == ["setup.exe /quiet /norestart", "vhdtool version guest.vhdx"]


def test_what_is_built_in_is_left_alone() -> None:
    image = replace(WELL, windows=(10, 0, 14393), integration=integration("10.0.14393.0"))
    advice = on("windows-server-2016", "windows-server-2016", image)
    assert (advice.newer, commands(advice), advice.obstacles) == (None, [], ())
    assert advice.steps[0].text.startswith("Nothing to install")


LINUX = replace(WELL, windows=None, kvp=None, sha2=None, integration=None)


def test_linux_by_name_goes_by_its_distribution() -> None:
    host, linux = known_system("windows-10"), known_system("linux")
    advice = advise(host, linux, daemon_package="hyper-v")
    assert advice.used is not None
    assert advice.used.row.mechanism.id == "package-manager"
    assert "install hyper-v." in advice.steps[-1].text
    assert "hyperv-daemons on Debian" in advise(host, linux).steps[-1].text


def test_linux_with_an_image_goes_by_its_findings() -> None:
    off = Finding("kvp-disabled", "medium", "hv_kvp_daemon does not start.", "In the guest: systemctl enable it.")
    small = Finding("daemon-missing", "low", "hv_fcopy_daemon is not installed.", "In the guest: install it.")
    other = Finding("module-blacklisted", "low", "hv_balloon is kept from loading.", "Take it out.")
    advice = on("windows-10", "linux", replace(LINUX, findings=(off, small, other)))
    assert codes(advice) == {"kvp-disabled": ()}
    told = " ".join(step.text for step in advice.steps)
    assert "systemctl enable it" in told
    assert "install it" in told
    assert "Take it out" not in told
    well = on("windows-10", "linux", replace(LINUX, findings=(other,)))
    assert well.obstacles == ()
    assert "leave them as they are" in well.steps[-1].text


def test_newer_by_what_is_sure() -> None:
    newest = newest_version((6, 3, 9600))
    assert newer_exists(integration("6.3.9600.18692"), newest) is True
    assert newer_exists(integration(NEWEST), newest) is False
    assert newer_exists(integration("6.3.9600.20000"), newest) is False
    assert newer_exists(integration(None), newest) is None
    assert newer_exists(None, newest) is None
    assert newer_exists(integration("6.3.9600.16384", "cbs-packages", "built-in package"), newest) is None
    assert newer_exists(integration("6.2.9200.16384", "cbs-packages", "built-in package"), newest) is True
    assert newer_exists(integration("10.0.14393.0"), newest_version((10, 0, 14393))) is None


def test_every_pair_is_answered() -> None:
    for host in matrix_hosts():
        for guest in known_systems():
            advice = advise(host, guest)
            assert advice.steps
            assert advice.listed or {one.code for one in advice.obstacles} & {"guest-not-listed", "host-not-listed"}
