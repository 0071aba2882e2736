"""The runner, run: by Wine's cmd.exe, with stand-ins for DISM and the like that note what they are called with.

What stands in for a start of Windows is the loss of HKLM\\HARDWARE, which is volatile in Wine as it is in Windows.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli import staging_guests
from tests.cli.changing import changed
from tests.cli.harness import run as vhdtool
from tests.oracle.wine_guest import BOOT_MARK, WineGuest
from tests.staging.packages import write_package, write_root
from tests.tools import require_ntfs_writer
from vhdtool.knowledge.dism_exit_codes import exit_codes
from vhdtool.staging.result_file import StageResult, parse_kvp_value, parse_result
from vhdtool.staging.runner import (
    CHAINED_COPY,
    ORIGINAL_COPY,
    RunnerCab,
    RunnerFacts,
    chain_setup_complete,
    render_runner,
    service_command,
)

pytestmark = pytest.mark.oracle

ID = "kb9999999-0123abcd"
SERVICE = f"vhdtool-{ID}"
SERVICE_KEY = rf"HKLM\SYSTEM\CurrentControlSet\Services\{SERVICE}"
SETUP_KEY = r"HKLM\SYSTEM\Setup"
CBS = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing"
EXCHANGE = r"HKLM\SOFTWARE\Microsoft\Virtual Machine\Guest"
FOLDER = rf"C:\windows\Setup\vhdtool\{ID}"
DOSE = float(os.environ.get("VHDTOOL_CRASH_DOSE", "1"))
NOT_APPLICABLE = -2146498530
BUSY = 1618
ONE = (RunnerCab("1-a.cab", "", ""),)
TWO = (*ONE, RunnerCab("2-b.cab", "", ""))
FACTS = RunnerFacts(
    ID, ONE, (6, 3, 9600), "amd64", "never", rf"%SystemRoot%\Setup\vhdtool\{ID}", SERVICE,
    wait_rounds=2, wait_seconds=0, settle_seconds=0,
)  # fmt: skip


class Runner:
    """A stage in the directory where it lies in a guest."""

    def __init__(self, wine: WineGuest, facts: RunnerFacts = FACTS, *, service: bool = True) -> None:
        self.wine = wine
        self.facts = facts
        self.folder = wine.windows / "Setup" / "vhdtool" / facts.id
        self.folder.mkdir(parents=True)
        self.script = self.folder / "run.cmd"
        self.script.write_bytes(render_runner(facts))
        for cab in facts.cabs:
            (self.folder / cab.name).write_bytes(b"MSCF")
        if service:
            wine.create_service(facts.service, service_command(facts))

    def boot(self, way: str = "service") -> None:
        """Start Windows anew as far as the runner sees, and run it to its end."""
        self.wine.next_start()
        self.run(way)

    def run(self, way: str = "service") -> None:
        """Run it in this start of Windows."""
        self.wine.run("cmd.exe", "/d", "/c", "call", rf"{FOLDER}\run.cmd", way)

    @property
    def result(self) -> StageResult:
        return parse_result((self.folder / "result.txt").read_bytes(), path="result.txt")

    @property
    def installs(self) -> list[str]:
        """The calls of DISM and pkgmgr."""
        return [line for line in self.wine.calls if "dism.exe" in line or "pkgmgr" in line]

    @property
    def shutdowns(self) -> int:
        return sum("shutdown" in line for line in self.wine.calls)

    @property
    def has_service(self) -> bool:
        return self.wine.has_key(SERVICE_KEY)

    @property
    def told(self) -> str | None:
        """What the host can read."""
        found = re.search(r"vhdtool\.stage\s+REG_SZ\s+(\S+)", self.wine.output("reg.exe", "query", EXCHANGE))
        return None if found is None else found[1]


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WineGuest]:
    guest = WineGuest(tmp_path_factory.mktemp("wine") / "prefix")
    yield guest
    guest.stop()


@pytest.fixture
def wine(windows: WineGuest) -> WineGuest:
    windows.clean()
    for key in (EXCHANGE, SETUP_KEY, CBS):
        windows.delete_key(key)
    windows.delete_service(SERVICE)
    return windows


def test_the_command_line_is_dism_s(wine):
    runner = Runner(wine, replace(FACTS, cabs=TWO))
    wine.codes("dism", [0])
    runner.boot()
    assert runner.installs == [
        rf'"C:\windows\System32\dism.exe" /English /Online /Add-Package /PackagePath:"{FOLDER}\{name}" /Quiet'
        rf' /NoRestart /LogPath:"{FOLDER}\dism-{number}.log"'
        for number, name in ((1, "1-a.cab"), (2, "2-b.cab"))
    ]
    assert runner.result.state == "applied"
    assert runner.told == f"{ID};applied;0"
    assert not runner.has_service
    assert not (runner.folder / "1-a.cab").exists()
    runner.boot()
    assert len(runner.installs) == 2


def test_vista_has_pkgmgr(wine):
    runner = Runner(wine, replace(FACTS, windows=(6, 0, 6002)))
    wine.codes("pkgmgr", [3010])
    runner.boot()
    (line,) = runner.installs
    assert (
        line.replace('"', "")
        .rstrip()
        .endswith(  # Wine's start leaves out quotation marks that a path does not need
            rf"\pkgmgr.exe /ip /m:{FOLDER}\1-a.cab /quiet /norestart /l:{FOLDER}\dism-1.log"
        )
    )
    assert runner.result.state == "restart-pending"


@pytest.mark.parametrize("code", exit_codes(), ids=lambda code: f"{code.value:#x}")
def test_every_exit_code_is_sorted(wine, code):
    runner = Runner(wine)
    wine.codes("dism", [code.decimal])
    runner.boot()
    ends = {"done": "applied", "restart": "restart-pending", "not-applicable": "not-applicable", "permanent": "failed"}
    state = ends.get(code.kind, "staged")
    (cab,) = runner.result.cabs
    assert (runner.result.state, cab.state, cab.code, cab.attempts) == (state, state, code.decimal, 1)
    assert len(runner.installs) == (2 if code.kind == "again-without-english" else 1)
    if state == "staged":
        assert runner.told is None
    else:
        told = parse_kvp_value(runner.told or "")
        assert told is not None
        assert (told.id, told.state, told.code) == (ID, state, code.decimal)
    assert runner.has_service == (state == "staged")
    assert (runner.folder / "1-a.cab").exists() == (state in {"staged", "failed"})
    assert runner.shutdowns == 0


def test_three_attempts_and_no_more(wine):
    runner = Runner(wine)
    wine.codes("dism", [BUSY])
    for attempt in (1, 2):
        runner.boot()
        assert (runner.result.state, runner.result.attempts) == ("staged", attempt)
    for _ in range(3):
        runner.boot()
        assert (runner.result.state, runner.result.attempts) == ("abandoned", 3)
    assert len(runner.installs) == 3
    assert not runner.has_service


def test_a_code_that_nobody_knows_is_tried_again(wine):
    runner = Runner(wine)
    wine.codes("dism", [-123456789, 0])
    runner.boot()
    assert runner.result.cabs[0].code == -123456789
    runner.boot()
    assert (runner.result.state, runner.result.attempts) == ("applied", 2)


def test_an_old_dism_is_asked_without_english_once(wine):
    runner = Runner(wine)
    wine.codes("dism", [87, 0])
    runner.boot()
    assert ["/English" in line for line in runner.installs] == [True, False]
    assert (runner.result.state, runner.result.attempts) == ("applied", 1)


def test_one_that_fails_does_not_lose_the_others(wine):
    runner = Runner(wine, replace(FACTS, cabs=(*TWO, RunnerCab("3-c.cab", "", ""))))
    wine.codes("dism", [BUSY, NOT_APPLICABLE, 3010, -2146498525])
    runner.boot()
    assert [cab.state for cab in runner.result.cabs] == ["staged", "not-applicable", "restart-pending"]
    runner.boot()
    assert [cab.state for cab in runner.result.cabs] == ["failed", "not-applicable", "restart-pending"]
    assert [line.split("PackagePath:")[1].split('"')[1].rpartition("\\")[2] for line in runner.installs] == [
        "1-a.cab", "2-b.cab", "3-c.cab", "1-a.cab",
    ]  # fmt: skip
    assert runner.told == f"{ID};failed;-2146498525"


def test_the_service_waits_for_setup_and_that_is_no_attempt(wine):
    runner = Runner(wine)
    wine.codes("dism", [0])
    for name in ("SystemSetupInProgress", "OOBEInProgress"):
        wine.set_value(SETUP_KEY, name, "REG_DWORD", "1")
        runner.boot()
        assert runner.installs == []
        wine.set_value(SETUP_KEY, name, "REG_DWORD", "0")
    assert not (runner.folder / "result.txt").exists()
    assert runner.has_service
    runner.boot()
    assert (runner.result.state, runner.result.attempts) == ("applied", 1)
    assert not runner.has_service


def test_the_service_goes_on_when_setup_ends(wine):
    runner = Runner(wine, replace(FACTS, wait_rounds=60, wait_seconds=1))
    wine.codes("dism", [0])
    wine.set_value(SETUP_KEY, "OOBEInProgress", "REG_DWORD", "1")
    wine.forget_start()
    waiting = wine.begin("cmd.exe", "/d", "/c", "call", rf"{FOLDER}\run.cmd", "service")
    time.sleep(2)
    assert runner.installs == []
    wine.set_value(SETUP_KEY, "OOBEInProgress", "REG_DWORD", "0")
    assert waiting.wait(60) == 0
    assert runner.result.state == "applied"


OWN_SCRIPT = (
    b"@echo off\r\nif errorlevel 1 echo bad > C:\\stand-in\\bad\r\necho ran > C:\\stand-in\\own\r\nexit /b 0\r\n"
)


def chain(runner: Runner, own: bytes | None) -> Path:
    """Put SetupComplete.cmd there as staging does."""
    script = runner.wine.windows / "Setup" / "Scripts" / "SetupComplete.cmd"
    script.parent.mkdir(parents=True)
    chained = chain_setup_complete(own, runner.facts)
    script.write_bytes(chained)
    (runner.folder / CHAINED_COPY).write_bytes(chained)
    if own is not None:
        (runner.folder / ORIGINAL_COPY).write_bytes(own)
    return script


def run_setup_complete(wine: WineGuest) -> None:
    wine.next_start()
    wine.run("cmd.exe", "/d", "/c", "call", r"C:\windows\Setup\Scripts\SetupComplete.cmd")


def test_setup_complete_neither_waits_nor_restarts(wine):
    runner = Runner(wine, replace(FACTS, reboot="if-needed", wait_rounds=600, wait_seconds=5))
    wine.codes("dism", [3010])
    wine.set_value(SETUP_KEY, "SystemSetupInProgress", "REG_DWORD", "1")
    script = chain(runner, OWN_SCRIPT)
    run_setup_complete(wine)
    assert runner.result.state == "restart-pending"
    assert runner.shutdowns == 0
    assert (wine.drive / "stand-in" / "own").exists()
    assert not (wine.drive / "stand-in" / "bad").exists()
    wine.set_value(SETUP_KEY, "SystemSetupInProgress", "REG_DWORD", "0")
    runner.run()
    assert runner.shutdowns == 1, "the service restarts in its place"
    assert script.read_bytes() != OWN_SCRIPT, "not while it may be running"
    assert runner.has_service
    runner.boot()
    assert script.read_bytes() == OWN_SCRIPT
    assert not runner.has_service
    assert (len(runner.installs), runner.shutdowns) == (1, 1)


@pytest.mark.parametrize("own", [OWN_SCRIPT, None, b""])
def test_the_service_is_the_fallback_where_setup_complete_is_left_out(wine, own):
    runner = Runner(wine)
    wine.codes("dism", [0])
    script = chain(runner, own)
    runner.boot()
    assert runner.result.state == "applied"
    assert not runner.has_service
    assert (script.read_bytes() if script.exists() else None) == own


def test_a_script_that_was_changed_since_stays(wine):
    runner = Runner(wine)
    wine.codes("dism", [0])
    script = chain(runner, OWN_SCRIPT)
    script.write_bytes(script.read_bytes() + b"rem more\r\n")
    runner.boot()
    assert script.read_bytes().endswith(b"rem more\r\n")
    assert not runner.has_service
    run_setup_complete(wine)
    assert len(runner.installs) == 1, "what is left of the block does nothing"


def test_two_at_once_are_one(wine):
    runner = Runner(wine, replace(FACTS, settle_seconds=2))
    wine.codes("dism", [BUSY])
    wine.forget_start()
    both = [
        wine.begin("cmd.exe", "/d", "/c", "call", rf"{FOLDER}\run.cmd", way) for way in ("service", "setupcomplete")
    ]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(set(runner.installs)) == 1
    assert runner.result.attempts == len(runner.installs)


def test_a_lock_belongs_to_one_start_of_windows(wine):
    runner = Runner(wine)
    wine.codes("dism", [0])
    wine.run("reg.exe", "add", BOOT_MARK[0], "/v", BOOT_MARK[1], "/d", "b1", "/f")
    (runner.folder / "lock-b1").mkdir()
    runner.run()
    assert runner.installs == [], "another one runs in this start"
    wine.restart()
    runner.run()
    assert runner.result.state == "applied"
    assert list(runner.folder.glob("lock-*")) == []


def test_other_packages_go_first_but_not_for_ever(wine):
    runner = Runner(wine)
    wine.codes("dism", [0])
    wine.set_value(rf"{CBS}\RebootPending", "x", "REG_SZ", "x")
    for _ in range(3):
        runner.boot()
        assert runner.installs == []
    runner.boot()
    assert (runner.result.state, runner.result.attempts) == ("applied", 1)


@pytest.mark.parametrize(
    ("reboot", "code", "restarts"), [("if-needed", 3010, 1), ("if-needed", 0, 0), ("never", 3010, 0)]
)
def test_it_restarts_once_and_only_when_told(wine, reboot, code, restarts):
    runner = Runner(wine, replace(FACTS, reboot=reboot))
    wine.codes("dism", [code])
    for _ in range(2):
        runner.boot()
        assert runner.shutdowns == restarts


def test_it_restarts_for_one_of_several_whatever_the_others_did(wine):
    runner = Runner(wine, replace(FACTS, cabs=TWO, reboot="if-needed"))
    wine.codes("dism", [-2146498525, 3010])
    runner.boot()
    assert (runner.result.state, runner.shutdowns) == ("failed", 1)


def test_the_service_s_command_starts_it_as_the_service_manager_does(wine):
    runner = Runner(wine)
    wine.codes("dism", [0])
    wine.forget_start()
    assert wine.run(wine.scm, SERVICE) == 0
    for _ in range(100):
        if not runner.has_service:
            break
        time.sleep(0.1)
    assert runner.result.state == "applied"


CHANGES = re.compile(r'(if .* )?(>|md |rd |move |copy |del |reg.exe add|sc.exe|shutdown|"%DISM%")|for /d')


def steps(script: bytes) -> list[int]:
    """The lines of a script to stop before: those after a line that changes something, as between others nothing does.

    With VHDTOOL_CRASH_DOSE above 1 all that are commands.
    """
    lines = script.decode().split("\r\n")
    found = []
    changed_something = True
    for number, line in enumerate(lines):
        if not line or line.startswith(("rem ", ":", "@echo")):
            continue
        if changed_something or DOSE > 1:
            found.append(number)
        changed_something = CHANGES.match(line) is not None
    return found


def stopped_before(script: bytes, number: int) -> bytes:
    """The script as it is when the power goes before one of its lines."""
    lines = script.split(b"\r\n")
    return b"\r\n".join([*lines[:number], b"exit 99", *lines[number:]])


def driver(number: int) -> bytes:
    """What happens to one stage: it is stopped before a line, and started whole at the next start of Windows."""
    mark = f"{BOOT_MARK[0]} /v {BOOT_MARK[1]}"
    lines = (
        "@echo off",
        f"sc.exe delete {SERVICE} >nul 2>nul",
        f"sc.exe create {SERVICE} binPath= x start= demand >nul 2>nul",
        f"reg.exe delete {mark} /f >nul 2>nul",
        rf"cmd.exe /d /c call {FOLDER}\run.cmd service",
        rf"sc.exe query {SERVICE} >nul 2>nul",
        r"if not errorlevel 1 echo x > C:\stand-in\waits-1",
        rf"copy /b /y {FOLDER}\whole.cmd {FOLDER}\run.cmd >nul",
        f"reg.exe add {mark} /d s{number} /f >nul 2>nul",
        rf"cmd.exe /d /c call {FOLDER}\run.cmd service",
        rf"sc.exe query {SERVICE} >nul 2>nul",
        r"if not errorlevel 1 echo x > C:\stand-in\waits-2",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def test_stopped_at_every_line_it_ends_the_same(wine):
    facts = replace(FACTS, cabs=TWO)
    whole = render_runner(facts)
    marks = wine.drive / "stand-in"
    waited = 0
    for number in steps(whole):
        wine.clean()
        runner = Runner(wine, facts, service=False)
        wine.codes("dism", [0, NOT_APPLICABLE, 0])
        script = chain(runner, OWN_SCRIPT)
        (runner.folder / "whole.cmd").write_bytes(whole)
        runner.script.write_bytes(stopped_before(whole, number))
        (marks / "driver").with_suffix(".cmd").write_bytes(driver(number))
        wine.run("cmd.exe", "/d", "/c", r"C:\stand-in\driver.cmd")
        waited += (marks / "waits-1").exists()
        assert not (marks / "waits-2").exists(), number
        assert runner.result.state in {"applied", "not-applicable"}, number
        assert all(cab.attempts <= 2 for cab in runner.result.cabs), number
        assert 2 <= len(runner.installs) <= 3, number
        assert script.read_bytes() == OWN_SCRIPT, number
        assert list(runner.folder.glob("lock-*")) == [], number
    assert waited > 20, "the stops are reached"


def test_what_it_writes_is_read_in_the_image(wine, tmp_path):
    """From a plan to a staged image, its runner run, its files put back, and the outcome."""
    require_ntfs_writer()
    image = staging_guests.guest(tmp_path)
    cab = write_package(tmp_path / "new.cab", "6.3.9600.20000")
    document = staging_guests.staged(
        image, "--cab", cab, "--trust-root", write_root(tmp_path), *staging_guests.IN_PLACE
    )
    stage_id = document["id"]
    place = f"/Windows/Setup/vhdtool/{stage_id}"
    folder = wine.windows / "Setup" / "vhdtool" / stage_id
    folder.mkdir(parents=True)
    for row in document["files"]:
        if row["action"] == "put" and row["path"].startswith(place):
            (folder / row["path"].rpartition("/")[2]).write_bytes(staging_guests.read(image, row["path"]))
    service = rf"HKLM\SYSTEM\CurrentControlSet\Services\vhdtool-{stage_id}"
    wine.create_service(f"vhdtool-{stage_id}", document["guest_command"])
    wine.codes("dism", [3010])
    wine.run("cmd.exe", "/d", "/c", "call", rf"C:\windows\Setup\vhdtool\{stage_id}\run.cmd", "service")
    assert not wine.has_key(service)

    for path in sorted(folder.iterdir()):
        if path.is_dir():
            changed("mkdir", image, f"{place}/{path.name}", *staging_guests.IN_PLACE)
        elif path.name in {"result.txt", "runner.log"}:
            changed("put", image, path, f"{place}/{path.name}", *staging_guests.IN_PLACE)
    own = rf"HKLM\SYSTEM\CurrentControlSet\Services\vhdtool-{stage_id}"
    changed("reg", "delete", image, own, *staging_guests.IN_PLACE)
    found = vhdtool("outcome", str(image), "--json")
    assert found.code == 0, found.stderr
    (stage,) = json.loads(found.stdout)["stages"]
    assert (stage["id"], stage["state"], stage["attempts"], stage["waits"]) == (stage_id, "restart-pending", 1, False)
    (package,) = stage["packages"]
    assert (package["state"], package["code"]) == ("restart-pending", 3010)
    assert "must be restarted" in package["meaning"]
    assert any("attempt 1" in line for line in stage["log"])
    assert stage["ended"] is not None
