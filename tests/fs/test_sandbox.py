"""The seccomp filter, run by an interpreter of our own for classic BPF; nothing is shut in here."""

from __future__ import annotations

import struct

import pytest

from vhdtool.fs.sandbox import CALLS, MACHINES, NOT_FOR_CODE, Machine, filter_program

ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000  # SECCOMP_RET_ALLOW, _ERRNO with EPERM, _KILL_PROCESS
OTHER_AUDIT = 0x40000003  # AUDIT_ARCH_I386


def judged(program: bytes, number: int, audit: int, protection: int = 0) -> int:
    """What the kernel would answer (linux/filter.h; the data are struct seccomp_data)."""
    data = struct.pack("<IIQ6Q", number, audit, 0, 0, 0, protection, 0, 0, 0)
    steps = [struct.unpack_from("<HBBI", program, place) for place in range(0, len(program), 8)]
    place, value = 0, 0
    for _ in range(len(steps)):
        code, yes, no, constant = steps[place]
        place += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (value,) = struct.unpack_from("<I", data, constant)
        elif code == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            place += yes if value == constant else no
        elif code == 0x45:  # BPF_JMP | BPF_JSET | BPF_K
            place += yes if value & constant else no
        else:
            assert code == 0x06  # BPF_RET | BPF_K
            return constant
    raise AssertionError("the filter does not end")


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    return MACHINES[request.param]


def test_what_is_needed_is_allowed_and_all_else_refused(machine: Machine):
    program = filter_program(machine)
    numbers = machine.numbers()
    assert len(set(numbers.values())) == len(numbers)
    allowed = {number for number in range(1000) if judged(program, number, machine.audit) == ALLOWED}
    assert allowed == set(numbers.values())
    assert {judged(program, number, machine.audit) for number in range(1000)} == {ALLOWED, REFUSED}


def test_memory_can_be_had_but_not_for_code(machine: Machine):
    program = filter_program(machine)
    for name in NOT_FOR_CODE:
        number = machine.numbers()[name]
        assert judged(program, number, machine.audit, protection=3) == ALLOWED
        assert judged(program, number, machine.audit, protection=7) == REFUSED
        assert judged(program, number, machine.audit, protection=4) == REFUSED


def test_another_architecture_ends_the_process(machine: Machine):
    program = filter_program(machine)
    assert {judged(program, number, OTHER_AUDIT) for number in range(400)} == {KILLED}


def test_the_x32_interface_is_refused():
    program = filter_program(MACHINES["x86_64"])
    for number in MACHINES["x86_64"].numbers().values():
        assert judged(program, 0x40000000 | number, MACHINES["x86_64"].audit) == REFUSED


def test_nothing_that_opens_connects_or_executes_is_among_the_calls():
    words = (
        "open",
        "socket",
        "connect",
        "exec",
        "fork",
        "clone",
        "dup",
        "mount",
        "ptrace",
        "kill",
        "recvmsg",
        "sendmsg",
    )
    assert not [name for name in CALLS if name.startswith(words)]


def test_a_filter_is_short_enough_for_the_kernel(machine: Machine):
    assert len(filter_program(machine)) // 8 <= 4096  # BPF_MAXINSNS
