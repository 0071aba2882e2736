"""How the NTFS worker shuts itself in: resource limits, Landlock, and a seccomp filter.

Each layer is given up for good, before a byte of a guest is read. What stays open is the socket to the writer, and
memory. Linux only; elsewhere nothing is in force but the resource limits, and :func:`attempts` tells so.

Numbers are those of the kernel's own headers: ``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``,
``linux/landlock.h``, ``asm/unistd_64.h`` (x86-64) and ``asm-generic/unistd.h`` (AArch64).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import struct
import sys
from dataclasses import dataclass
from typing import Any, Final

from vhdtool.fs.worker_wire import Layer

MEMORY: Final = 1 << 30
"""Address space that the worker may have, in bytes: it needs some 50 MB, whatever it writes."""
SECONDS: Final = 3600
"""Processor time after which the kernel ends it: 200 GB at the rate that was measured."""
DESCRIPTORS: Final = 3
"""The socket, and two of /dev/null: no further one can be had."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9

SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
BPF_LOAD_WORD, BPF_JUMP_EQUAL, BPF_JUMP_SET, BPF_RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # struct seccomp_data
PROTECTION_AT = 32  # its args[2], low half: the protection that mmap and mprotect are asked for
PROT_EXEC = 4

LANDLOCK_CREATE, LANDLOCK_RESTRICT = 444, 446  # the same numbers on every architecture
LANDLOCK_VERSION = 1
# What each version of Landlock can forbid (linux/landlock.h): a bit that the kernel does not know is an error.
LANDLOCK_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
LANDLOCK_NETWORK = 0x3  # bind and connect by TCP, from version 4
LANDLOCK_SCOPES = 0x3  # abstract sockets and signals to others, from version 6


# What the worker may call, with the numbers on x86-64 and on AArch64; None: not there. Nothing here makes a new
# descriptor or a new process. mmap and mprotect are allowed, but not for memory that can be executed.
CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "poll": (7, None),
    "ppoll": (271, 73),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "sched_yield": (24, 124),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
NOT_FOR_CODE: Final = ("mmap", "mprotect")


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor as seccomp knows it: its number in ``linux/audit.h``, and its column of :data:`CALLS`."""

    audit: int
    column: int

    def numbers(self) -> dict[str, int]:
        """The number of each call that it has."""
        return {name: number for name, row in CALLS.items() if (number := row[self.column]) is not None}


MACHINES: Final = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def machine() -> Machine | None:
    """What is known of this processor; ``None``: no filter can be made for it."""
    return MACHINES.get(os.uname().machine) if struct.calcsize("P") == 8 else None


def filter_program(facts: Machine) -> bytes:
    """Return the seccomp filter: what is not allowed fails with EPERM, another architecture ends the process.

    On x86-64 the calls of the x32 interface have numbers of their own, from 0x40000000, so they are not among the
    allowed ones.
    """
    refuse = struct.pack("<HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM)
    allow = struct.pack("<HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW)
    program = [
        struct.pack("<HBBI", BPF_LOAD_WORD, 0, 0, ARCHITECTURE_AT),
        struct.pack("<HBBI", BPF_JUMP_EQUAL, 1, 0, facts.audit),
        struct.pack("<HBBI", BPF_RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS),
        struct.pack("<HBBI", BPF_LOAD_WORD, 0, 0, NUMBER_AT),
    ]
    for name, number in facts.numbers().items():
        if name not in NOT_FOR_CODE:
            program += [struct.pack("<HBBI", BPF_JUMP_EQUAL, 0, 1, number), allow]
            continue
        program += [
            struct.pack("<HBBI", BPF_JUMP_EQUAL, 0, 4, number),
            struct.pack("<HBBI", BPF_LOAD_WORD, 0, 0, PROTECTION_AT),
            struct.pack("<HBBI", BPF_JUMP_SET, 0, 1, PROT_EXEC),
            refuse,
            allow,
        ]
    return b"".join([*program, refuse])


def enter(layers: Layer) -> dict[str, str]:
    """Give up what ``layers`` say; return what is in force now, for people.

    A layer that this kernel does not have is left out, and told as ``none``.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    facts = {"limits": "none", "landlock": "none", "seccomp": "none"}
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    sealed = sys.platform == "linux" and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if sealed and Layer.LANDLOCK in layers:  # first: it needs a descriptor for a moment
        facts["landlock"] = _enter_landlock(libc)
    if Layer.LIMITS in layers:
        facts["limits"] = _limit()
    if sealed and Layer.SECCOMP in layers:  # last: it forbids the calls above
        facts["seccomp"] = _enter_seccomp(libc)
    return facts


def _limit() -> str:
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": DESCRIPTORS,
        "RLIMIT_CPU": SECONDS,
        "RLIMIT_AS": MEMORY,
    }
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            # A lower hard limit stays; macOS refuses RLIMIT_AS.
            with contextlib.suppress(OSError, ValueError):
                hard = resource.getrlimit(kind)[1]
                kept = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (kept, kept))
    return "set"


def _enter_landlock(libc: Any) -> str:
    version = int(libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), LANDLOCK_VERSION))
    if version < 1:
        return "none"
    files = LANDLOCK_FILES.get(version, LANDLOCK_FILES[5])
    rules = struct.pack("<Q", files)
    if version >= 4:
        rules += struct.pack("<Q", LANDLOCK_NETWORK)
    if version >= 6:
        rules += struct.pack("<Q", LANDLOCK_SCOPES)
    ruleset = int(libc.syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0))
    if ruleset < 0:
        return "none"
    entered = int(libc.syscall(LANDLOCK_RESTRICT, ruleset, 0))  # without a rule nothing is allowed
    os.close(ruleset)
    return "none" if entered else str(version)


def _enter_seccomp(libc: Any) -> str:
    facts = machine()
    if facts is None:
        return "none"
    code = filter_program(facts)
    program = _FilterProgram(len(code) // 8, code)
    return "none" if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) else "filter"


def attempts(*, execute: bool) -> dict[str, str]:
    """Try what a worker must not be able to do; return for each how it ended: ``EPERM`` or the like, or ``allowed``.

    ``execute`` tells whether to try that too: where it is allowed, this process is gone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found = {"open": _attempt_open(), "connect": _attempt_connect(libc)}
    if execute:
        libc.execve(sys.executable.encode(), (ctypes.c_char_p * 2)(b"python", None), (ctypes.c_char_p * 1)(None))
        found["execute"] = _name(ctypes.get_errno())
    else:
        found["execute"] = "not-tried"
    return found


def _attempt_open() -> str:
    try:
        os.close(os.open(sys.executable, os.O_RDONLY))
    except OSError as error:
        return _name(error.errno)
    return "allowed"


def _attempt_connect(libc: Any) -> str:
    """Connect to this host's discard port, where normally nobody listens: that answer means that it was allowed."""
    number = int(libc.socket(2, 1, 0))  # AF_INET, SOCK_STREAM
    if number < 0:
        return _name(ctypes.get_errno())
    length = struct.pack("=H", 2) if sys.platform == "linux" else b"\x10\x02"
    address = length + struct.pack(">H4s8x", 9, bytes((127, 0, 0, 1)))
    refused = int(libc.connect(number, address, len(address))) and ctypes.get_errno()
    os.close(number)
    return "allowed" if refused in (0, errno.ECONNREFUSED) else _name(refused)


def _name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))
