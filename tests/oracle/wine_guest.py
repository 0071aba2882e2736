"""A Windows to run the runner in: a Wine prefix whose DISM, shutdown and others are stand-ins (``stand_in.c``)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.tools import require_tool

COMPILER = "x86_64-w64-mingw32-gcc"
STAND_INS = ("dism", "pkgmgr", "shutdown", "fc")
BOOT_MARK = (r"HKLM\HARDWARE\DESCRIPTION\System", "vhdtool.boot")
LIMIT = 120


class WineGuest:
    """One Wine prefix. :meth:`clean` makes it as it was for the next test."""

    def __init__(self, prefix: Path) -> None:
        for tool in ("wine", "wineserver", COMPILER):
            require_tool(tool)
        self.drive = prefix / "drive_c"
        self.windows = self.drive / "windows"
        self._marks = self.drive / "stand-in"
        self._starts = itertools.count()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(prefix.parent),
            "WINEPREFIX": str(prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=;" + ";".join(f"{name}.exe=n" for name in (*STAND_INS, "scm")),
        }
        self._tool("wineboot", "-i")
        self._tool("wineserver", "-w")
        self._install_stand_ins(prefix.parent)
        self.start()

    def _install_stand_ins(self, folder: Path) -> None:
        program = folder / "stand_in.exe"
        source = Path(__file__).parent / "stand_in.c"
        subprocess.run([COMPILER, "-O1", "-s", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
        for name in STAND_INS:
            target = self.windows / "system32" / f"{name}.exe"
            target.unlink(missing_ok=True)
            shutil.copy(program, target)
        self._marks.mkdir()
        shutil.copy(program, self._marks / "scm.exe")

    def start(self) -> None:
        """Start this Windows: what is volatile in its registry is new."""
        subprocess.run(["wineserver", "-p"], env=self._environment, check=False)  # 2 when it runs already

    def stop(self) -> None:
        """End it, and everything that runs in it."""
        subprocess.run(["wineserver", "-k", "-w"], env=self._environment, check=False)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def forget_start(self) -> None:
        """Make it look as if it had been started anew: the one thing that the runner knows a start by goes."""
        self.run("reg.exe", "delete", BOOT_MARK[0], "/v", BOOT_MARK[1], "/f")

    def next_start(self) -> None:
        """Make it look as if it had been started anew, and another runner had marked that already."""
        self.run("reg.exe", "add", BOOT_MARK[0], "/v", BOOT_MARK[1], "/d", f"s{next(self._starts)}", "/f")

    def clean(self) -> None:
        """Remove what a test left."""
        shutil.rmtree(self.windows / "Setup", ignore_errors=True)
        for left in self._marks.glob("*"):
            if left.suffix != ".exe":
                left.unlink()

    def run(self, *command: str) -> int:
        """Run a program of this Windows to its end; return its exit code (8 bits)."""
        return subprocess.run(
            ["wine", *command], env=self._environment, check=False, timeout=LIMIT, cwd=self.drive,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        ).returncode  # fmt: skip

    def output(self, *command: str) -> str:
        """Run a program and return what it prints."""
        done = subprocess.run(
            ["wine", *command], env=self._environment, check=False, timeout=LIMIT, cwd=self.drive,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program and go on."""
        return subprocess.Popen(
            ["wine", *command], env=self._environment, cwd=self.drive,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def set_value(self, key: str, name: str, kind: str, data: str) -> None:
        """Set a registry value."""
        assert self.run("reg.exe", "add", key, "/v", name, "/t", kind, "/d", data, "/f") == 0

    def has_key(self, key: str) -> bool:
        """Whether a registry key is there."""
        return self.run("reg.exe", "query", key) == 0

    def delete_key(self, key: str) -> None:
        """Delete a registry key."""
        self.run("reg.exe", "delete", key, "/f")

    def create_service(self, name: str, command: str) -> None:
        """Make a service that its manager knows, as it knows after a start those that are in the registry then."""
        assert self.run("sc.exe", "create", name, "binPath=", command, "start=", "demand") == 0

    def delete_service(self, name: str) -> None:
        """Remove a service."""
        self.run("sc.exe", "delete", name)

    def codes(self, program: str, codes: Sequence[int]) -> None:
        """What a stand-in ends with, call by call."""
        (self._marks / f"{program}.codes").write_text("".join(f"{code}\n" for code in codes), encoding="ascii")

    @property
    def calls(self) -> list[str]:
        """The command lines that the stand-ins were called with."""
        noted = self._marks / "calls.txt"
        return noted.read_text(encoding="ascii").splitlines() if noted.exists() else []

    @property
    def scm(self) -> str:
        """The stand-in of the service control manager."""
        return r"C:\stand-in\scm.exe"

    def _tool(self, *command: str) -> None:
        subprocess.run(
            command, env=self._environment, check=True, timeout=LIMIT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
