#!/usr/bin/python3
"""Takes all there is of one resource after the other, and says how each ended; memory is the last."""

import errno
import mmap
import os
import random
import resource
import signal
import subprocess
import threading
import time

import avf_payload

block = random.Random(1).randbytes(1 << 20)


def processes():
    bomb = "while :; do sleep 1000 >/dev/null 2>&1 & done"
    done = subprocess.run(["/bin/sh", "-c", bomb], capture_output=True, text=True)
    os.kill(-1, signal.SIGKILL)
    return "no more" if "can't fork" in done.stderr else done.stderr


def threads():
    end = threading.Event()
    started = 0
    threading.stack_size(64 << 10)
    try:
        while True:
            threading.Thread(target=end.wait).start()
            started += 1
    except RuntimeError:
        end.set()
    return "no more" if started > 100 else f"only {started}"


def fill(folder):
    try:
        with open(f"{folder}/filler", "wb", buffering=0) as file:
            while file.write(block) == len(block):
                pass
            file.write(block)
    except OSError as error:
        return errno.errorcode[error.errno]


def descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = []
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        for fd in opened:
            os.close(fd)
        return errno.errorcode[error.errno]


def say(what, how):
    print(f"{what}: {how} ({time.monotonic():.1f} s)")


say("processes", processes())
say("threads", threads())
say("descriptors", descriptors())
for folder in ("/data", "/tmp", "/dev/shm", "/run/lock"):
    say(folder, fill(folder))
avf_payload.notify_payload_ready()

hoard = []
while True:
    piece = mmap.mmap(-1, len(block))
    piece.write(block)
    hoard.append(piece)
