"""The script that the guest runs, as text; tests/oracle/test_runner_wine.py runs it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from vhdtool.errors import RefusedError
from vhdtool.staging.runner import (
    RunnerCab,
    RunnerFacts,
    chain_setup_complete,
    install_commands,
    render_runner,
    service_command,
    setup_complete_block,
    unchain_setup_complete,
)

FACTS = RunnerFacts(
    id="kb9999999-0123abcd",
    cabs=(RunnerCab("1-a.cab", "0" * 64, "KB9999999"), RunnerCab("2-b.cab", "1" * 64, "KB8888888")),
    windows=(6, 3, 9600),
    architecture="amd64",
    reboot="never",
    folder=r"%SystemRoot%\Setup\vhdtool\kb9999999-0123abcd",
    service="vhdtool-kb9999999-0123abcd",
)
OTHER = replace(FACTS, id="kb1-bb", folder=r"%SystemRoot%\Setup\vhdtool\kb1-bb", service="vhdtool-kb1-bb")


def script(facts: RunnerFacts = FACTS) -> list[str]:
    return render_runner(facts).decode("ascii").split("\r\n")


def test_every_line_ends_as_cmd_needs_it():
    data = render_runner(FACTS)
    assert data.count(b"\n") == data.count(b"\r\n")
    assert data.endswith(b"\r\n")
    assert b"@" not in data.replace(b"@echo off", b"", 1)


def test_every_jump_has_its_label_and_every_label_its_jump():
    lines = script()
    labels = [line[1:] for line in lines if line.startswith(":")]
    assert len(labels) == len(set(labels))
    jumps = re.findall(r"\bgoto (\w+)|\bcall :(\w+)", "\n".join(lines))
    assert {one or other for one, other in jumps} == set(labels)


SETS_ERRORLEVEL = re.compile(r'(reg|fc|find|sc|ping|shutdown)\.exe |start /wait |"%DISM%" ')


def test_an_errorlevel_is_asked_only_of_what_sets_it():
    """MD and CD leave it alone where they do well (they do not in Wine): it must be 0 before them."""
    lines = [line for line in script() if line and not line.startswith("rem ")]
    asked = [number for number, line in enumerate(lines) if "errorlevel 1" in line.lower()]
    assert len(asked) > 5
    for number in asked:
        before = lines[number - 1]
        if SETS_ERRORLEVEL.match(before):
            continue
        assert before.startswith(("md ", "cd ")), before
        assert lines[number - 2] == "call :zero", before


def test_lines_are_short_enough_for_cmd():
    assert max(map(len, script())) < 8000  # cmd.exe takes 8191


def test_vista_has_pkgmgr_and_later_ones_dism():
    old = "\n".join(script(replace(FACTS, windows=(6, 0, 6002))))
    assert "pkgmgr.exe" in old
    assert "dism.exe" not in old
    new = "\n".join(script())
    assert "dism.exe" in new
    assert "pkgmgr" not in new


def test_it_restarts_the_guest_only_when_told():
    assert 'if not "never"=="if-needed" goto leave' in script()
    assert 'if not "if-needed"=="if-needed" goto leave' in script(replace(FACTS, reboot="if-needed"))


@pytest.mark.parametrize("name", ["a b.cab", "a&b.cab", "%x%.cab", 'a".cab', "a^.cab", "ä.cab", ""])
def test_no_name_can_mean_anything_to_cmd(name):
    with pytest.raises(ValueError, match=f"^{re.escape(name)}$"):
        replace(FACTS, cabs=(RunnerCab(name, "", ""),))


def test_the_service_starts_the_script_and_ends():
    assert service_command(FACTS) == (
        r'%SystemRoot%\System32\cmd.exe /d /c start "" /b /min %SystemRoot%\System32\cmd.exe /d /c call '
        r'"%SystemRoot%\Setup\vhdtool\kb9999999-0123abcd\run.cmd" service'
    )


@pytest.mark.parametrize(("windows", "start"), [((6, 3, 9600), "dism.exe"), ((6, 0, 6002), "pkgmgr.exe")])
def test_the_plan_tells_what_installs_each_package(windows, start):
    facts = replace(FACTS, windows=windows)
    commands = install_commands(facts)
    assert len(commands) == 2
    for command, cab in zip(commands, facts.cabs, strict=True):
        assert command.startswith(rf"%SystemRoot%\System32\{start} ")
        assert rf'"%SystemRoot%\Setup\vhdtool\kb9999999-0123abcd\{cab.name}"' in command
        assert not {"%CAB%", "%HERE%", "%N%", "%~1", "%DISM%"} & set(re.findall(r"%[^%\\ ]+%|%~1", command))


EXISTING = [
    b"@echo off\r\ncall x.cmd\r\nexit 0\r\n",
    b"@echo off\nrem unix\n",
    b"no newline at the end",
    "rem \u00e4\u00f6 \u4e2d".encode(),
    b"\xef\xbb\xbf@echo off\r\n",
    b"\r\n\r\n",
    b"rem \x80\xff\x00 odd",
]


@pytest.mark.parametrize("existing", EXISTING)
def test_what_was_there_comes_back_byte_for_byte(existing):
    chained = chain_setup_complete(existing, FACTS)
    assert chained.endswith(existing)
    assert unchain_setup_complete(chained, FACTS.id) == existing
    twice = chain_setup_complete(chained, OTHER)
    assert unchain_setup_complete(twice, FACTS.id) == chain_setup_complete(existing, OTHER)
    assert unchain_setup_complete(twice, OTHER.id) == chained


def test_alone_nothing_is_left():
    assert unchain_setup_complete(chain_setup_complete(None, FACTS), FACTS.id) is None
    assert chain_setup_complete(None, FACTS) == setup_complete_block(FACTS)


def test_a_script_without_the_block_is_left_alone():
    assert unchain_setup_complete(EXISTING[0], FACTS.id) == EXISTING[0]


def test_a_block_that_somebody_cut_goes_line_by_line():
    chained = chain_setup_complete(EXISTING[0], FACTS).replace(b"@rem vhdtool end kb9999999-0123abcd\r\n", b"")
    assert unchain_setup_complete(chained, FACTS.id) == b"@ver >nul\r\n" + EXISTING[0]


def test_utf_16_is_refused():
    with pytest.raises(RefusedError) as caught:
        chain_setup_complete("@echo off".encode("utf-16"), FACTS)
    assert caught.value.code == "setupcomplete-not-text"
