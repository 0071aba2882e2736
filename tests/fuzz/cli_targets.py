"""The commands themselves, as a user runs them: exit code, one message, and what they print."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.fixtures.guest_files import CONFIG, demo_guest
from tests.fuzz import inputs
from tests.fuzz.guest_targets import build_fixtures, locate_guest
from tests.fuzz.hive_targets import locate_hives
from tests.fuzz.target import Content, Observation, Target
from vhdtool.cli.main import main
from vhdtool.errors import InputError, RefusedError

ERROR = re.compile(r"vhdtool: (?:\x1b\[[0-9;]*m)?error\[([a-z0-9-]+)\]:(?:\x1b\[[0-9;]*m)? (\S.*)")

REPORTED = re.compile(rb'(?<="code":")[a-z0-9-]+(?=")|(?<=\[)[a-z0-9]+(?:-[a-z0-9]+)+(?=\])')  # as JSON, as text


class CommandFaultError(Exception):
    """The command ended in a way that no input may make it end."""


def _run(*arguments: str, good: tuple[int, ...] = (0,)) -> Callable[[Path], Observation]:
    """Run a command on the first file named; ``good`` are the exit codes that come with an answer."""

    def run(folder: Path) -> Observation:
        code, out, told = _call([str(folder / word) if "." in word else word for word in arguments])
        content = Content()
        if code in good:
            content.add(out.replace(os.fsencode(folder), b""), code)
            content.note([f"exit {code}"] if code else [])
            content.note(word.decode() for word in REPORTED.findall(out))
            content.note(re.findall(r"vhdtool: note: (.*)", told.replace(str(folder), "")))
            return content.seen()
        found = ERROR.findall(told)
        if code not in (3, 4) or len(found) != 1 or "Traceback" in told:
            raise CommandFaultError(f"exit code {code}, stderr:\n{told}")
        raise (InputError if code == 3 else RefusedError)(found[0][0], found[0][1])

    return run


def _call(arguments: list[str]) -> tuple[int, bytes, str]:
    kept = sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    sys.stdout = io.TextIOWrapper(out, "utf-8", "backslashreplace", write_through=True)
    sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)
    os.environ["VHDTOOL_DEBUG"] = ""
    try:
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        return code, out.getvalue(), err.getvalue().decode()
    finally:
        sys.stdout, sys.stderr = kept


def _dirty_hive(folder: Path) -> None:
    for path, data in demo_guest().items():
        if path.startswith(f"{CONFIG}/SYSTEM"):
            (folder / path.rpartition("/")[2].replace("SYSTEM", "SYSTEM.hiv", 1)).write_bytes(data)


def cli_targets() -> list[Target]:
    image = "demo.vhdx"
    guest = build_fixtures(image)
    system = r"HKLM\SYSTEM\CurrentControlSet\Services"

    def target(name: str, weight: int, run: Callable[[Path], Observation]) -> Target:
        return Target(name, weight, guest, run, locate_guest, strict=False, slow=True)

    found = [
        target("cli-inspect", 3, _run("inspect", image, "--all-services")),
        target("cli-inspect-json", 2, _run("inspect", image, "--json")),
        target("cli-version", 1, _run("version", image, "--json")),
        target("cli-services", 1, _run("services", "list", image)),
        target("cli-reg-query", 2, _run("reg", "query", image, system, "--recursive", good=(0, 1))),
        target("cli-ls", 1, _run("ls", image, "/Windows/System32", good=(0, 1))),
    ]
    reg = _run("reg", "query", "SYSTEM.hiv", "", "--recursive", good=(0, 1))
    found.append(Target("cli-reg-hive", 2, _dirty_hive, reg, locate_hives, strict=False, slow=True))
    for kind, build in (("vhdx", inputs.vhdx_chain), ("vhd", inputs.vhd_chain)):
        verify = _run("disk", "verify", f"top.{kind}", "--json", good=(0, 1))
        found.append(Target(f"cli-verify-{kind}", 2, build, verify, locate_guest, payload=False, slow=True))
    return found
