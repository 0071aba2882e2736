"""Foreign tools that judge ours: found on the path, or the test skips by the tool's name."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from typing import NoReturn

import pytest


def require_ntfs_writer() -> None:
    """The library that writes NTFS; skips where it is missing, fails where ``VHDTOOL_REQUIRE_TOOLS=1`` is set."""
    if ctypes.util.find_library("ntfs-3g") is None:
        cannot_judge("libntfs-3g is not installed")


def require_tool(name: str) -> str:
    """The tool's path; skips where it is missing, fails where ``VHDTOOL_REQUIRE_TOOLS=1`` is set."""
    path = shutil.which(name)
    if path is None:
        cannot_judge(f"{name} is not installed")
    return path


def cannot_judge(reason: str) -> NoReturn:
    """Skip for a reason that names what is missing; fail where ``VHDTOOL_REQUIRE_TOOLS=1`` is set."""
    if os.environ.get("VHDTOOL_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}, and VHDTOOL_REQUIRE_TOOLS=1")
    pytest.skip(reason)


def run(*command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """Run a tool without a shell and keep what it prints."""
    return subprocess.run(command, check=check, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
