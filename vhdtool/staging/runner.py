r"""What the guest runs at its next start: ``run.cmd``, the service that starts it, its block in SetupComplete.cmd.

The script is ``runner.cmd`` beside this module, plain for cmd.exe: Server Core of 2008 has no PowerShell, and an
execution policy would stop one elsewhere. Here it is filled in.

The service's command starts the script and ends: cmd.exe does not answer the service control manager, which gives up
on it after 30 s, or at once when it ends (events 7009 and 7000, noted once). ``start /b`` makes the script a process of
its own that outlives that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from vhdtool.errors import RefusedError
from vhdtool.knowledge.dism_exit_codes import exit_codes

RUNNER_NAME = "run.cmd"
CHAINED_COPY = "SetupComplete.staged"
"""In the stage's directory: SetupComplete.cmd as staging left it. The runner restores it only if it is still so."""
ORIGINAL_COPY = "SetupComplete.before"
"""In the stage's directory: SetupComplete.cmd as it was; missing where there was none."""
CMD = r"%SystemRoot%\System32\cmd.exe"
PKGMGR = r"%SystemRoot%\System32\pkgmgr.exe"
DISM_FROM = (6, 1)
"""The first Windows that has DISM; Windows Vista and 2008 have pkgmgr (Microsoft, "DISM supported platforms")."""
_SAFE = re.compile(r"[A-Za-z0-9._-]+")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class RunnerCab:
    """A package in the stage's directory. ``title`` is for people and stands nowhere in the script."""

    name: str
    sha256: str
    title: str


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    r"""What the script is made of.

    ``folder`` is the stage's directory as the guest spells it; ``service`` the name of the service. ``windows`` is
    major, minor, build. ``wait_rounds`` of ``wait_seconds`` each is how long the service waits for setup to end: an
    hour. ``settle_seconds``: the pause in which two that start at once agree on the mark of this start.
    """

    id: str
    cabs: tuple[RunnerCab, ...]
    windows: tuple[int, int, int]
    architecture: str
    reboot: Literal["never", "if-needed"]
    folder: str
    service: str
    wait_rounds: int = 360
    wait_seconds: int = 10
    settle_seconds: int = 2

    def __post_init__(self) -> None:
        """Hold the names to letters that mean nothing to cmd.exe."""
        for name in (self.id, self.service, *(cab.name for cab in self.cabs)):
            if not _SAFE.fullmatch(name):
                raise ValueError(name)


def render_runner(facts: RunnerFacts) -> bytes:
    """Fill in the script: ASCII, lines that end in CR LF."""
    numbered = list(enumerate(facts.cabs, 1))
    parts = {
        "ID": facts.id,
        "SERVICE": facts.service,
        "REBOOT": facts.reboot,
        "WAITS": str(facts.wait_rounds),
        "PAUSE": str(facts.wait_seconds + 1),  # ping waits between its packets
        "SETTLE": str(facts.settle_seconds + 1),
        "EACH_CAB": _lines(f'call :cab {number} "{cab.name}"' for number, cab in numbered),
        "EACH_RESULT": _lines(f'call :tell {number} "{cab.name}"' for number, cab in numbered),
        "EACH_CODE": _lines(
            f'if "%STATE_{number}%"=="%STATE%" set "CODE=%CODE_{number}%"' for number, _ in reversed(numbered)
        ),
        "EACH_DROP": _lines(f'call :drop {number} "{cab.name}"' for number, cab in numbered),
        "INSTALL": _install(facts.windows),
        "KINDS": _lines(f'if "%RC%"=="{code.decimal}" set "KIND={code.kind}"' for code in exit_codes()),
    }
    text = re.sub("@([A-Z_]+)@", lambda found: parts[found[1]], _template())
    return text.replace("\n", "\r\n").encode("ascii")


def service_command(facts: RunnerFacts) -> str:
    """The ImagePath of the service (REG_EXPAND_SZ)."""
    return rf'{CMD} /d /c start "" /b /min {CMD} /d /c call "{facts.folder}\{RUNNER_NAME}" service'


def install_commands(facts: RunnerFacts) -> tuple[str, ...]:
    """The command that installs each package in the guest, as it first runs: for people, and for the plan."""
    line = _install_line(facts.windows)
    found = []
    for number, cab in enumerate(facts.cabs, 1):
        text = line.replace('"%DISM%"', r"%SystemRoot%\System32\dism.exe").replace("%~1", "/English")
        text = text.replace("%HERE%", f"{facts.folder}\\").replace("%CAB%", cab.name).replace("%N%", str(number))
        found.append(text.removeprefix('start /wait "" ').replace(f'"{PKGMGR}"', PKGMGR))
    return tuple(found)


def setup_complete_block(facts: RunnerFacts) -> bytes:
    """The lines that SetupComplete.cmd gets. The script runs in its own cmd.exe, and changes nothing for the rest."""
    path = rf"{facts.folder}\{RUNNER_NAME}"
    lines = (
        f"@rem vhdtool begin {facts.id}",
        f'@if exist "{path}" {CMD} /d /c call "{path}" setupcomplete',
        "@ver >nul",
        f"@rem vhdtool end {facts.id}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def chain_setup_complete(existing: bytes | None, facts: RunnerFacts) -> bytes:
    """Put the block before what is there: an ``exit`` in that would end the whole.

    Raises:
        RefusedError: ``setupcomplete-not-text``: the script is UTF-16, which cmd.exe can't run.
    """
    if existing is not None and existing.startswith(_UTF16):
        raise RefusedError(
            "setupcomplete-not-text",
            "the SetupComplete.cmd that is there can't be chained: it is UTF-16, which cmd.exe does not run",
            path="Setup/Scripts/SetupComplete.cmd",
            expected="text in the guest's code page or UTF-8",
            found="a UTF-16 byte order mark",
            hint="Save it as ANSI or UTF-8 and put it there again, or stage with --via service.",
        )
    return setup_complete_block(facts) + (existing or b"")


def unchain_setup_complete(existing: bytes, stage_id: str) -> bytes | None:
    """Take a stage's block out again; ``None`` where nothing else is in the file. The rest stays, byte for byte."""
    begin, end = (f"@rem vhdtool {word} {stage_id}\r\n".encode("ascii") for word in ("begin", "end"))
    first = existing.find(begin)
    last = existing.find(end, first)
    if first >= 0 and last >= 0:
        return existing[:first] + existing[last + len(end) :] or None
    marks = [mark.encode("ascii") for mark in (f"vhdtool begin {stage_id}", f"vhdtool end {stage_id}")]
    marks.append(rf"\vhdtool\{stage_id}\{RUNNER_NAME}".encode("ascii"))
    lines = existing.splitlines(keepends=True)
    return b"".join(line for line in lines if not any(mark in line for mark in marks)) or None


def _install(windows: tuple[int, int, int]) -> str:
    line = _install_line(windows)
    if windows[:2] < DISM_FROM:
        return line
    return (
        'set "DISM=%SystemRoot%\\System32\\dism.exe"\n'
        'if exist "%SystemRoot%\\Sysnative\\dism.exe" set "DISM=%SystemRoot%\\Sysnative\\dism.exe"\n'
    ) + line


def _install_line(windows: tuple[int, int, int]) -> str:
    if windows[:2] >= DISM_FROM:
        return (
            '"%DISM%" %~1 /Online /Add-Package /PackagePath:"%HERE%%CAB%" /Quiet /NoRestart'
            ' /LogPath:"%HERE%dism-%N%.log"'
        )
    return f'start /wait "" "{PKGMGR}" /ip /m:"%HERE%%CAB%" /quiet /norestart /l:"%HERE%dism-%N%.log"'


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


@cache
def _template() -> str:
    return files(__package__).joinpath("runner.cmd").read_text(encoding="ascii")
