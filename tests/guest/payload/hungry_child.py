#!/usr/bin/python3
"""Has a child that takes all memory, and is then killed by itself."""

import os
import signal

child = os.fork()
if child == 0:
    hoard = []
    while True:
        hoard.append(os.urandom(1 << 20))
_, status = os.waitpid(child, 0)
print(f"the child was killed by signal {os.WTERMSIG(status)}", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
