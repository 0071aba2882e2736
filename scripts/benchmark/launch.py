"""Runs one command and prints what it took: seconds of wall clock, seconds of processor, peak KiB of memory, exit code.

A process of its own, and a small one: the kernel counts the memory that a process had before ``exec`` as the
command's, and the benchmark itself is large.
"""

import os
import sys
import time

null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - start
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
