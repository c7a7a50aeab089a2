"""Programs that are started to be measured."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """What each measure gives in `rounds` rounds; in a round each has its turn. One round before is not counted."""
    for measure in measures:
        measure()
    given = [[measure() for measure in measures] for _ in range(rounds)]
    return [list(column) for column in zip(*given, strict=True)]


def ratio(ours: list[float], other: list[float]) -> float:
    """The median of the ratios of what was measured in the same round."""
    return median(a / b for a, b in zip(ours, other, strict=True))


def seconds_of(*command: str, env: Mapping[str, str] | None = None) -> float:
    """How long a program takes that ends by itself."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - begin


def python_start() -> float:
    return seconds_of(sys.executable, "-c", "pass")


@contextlib.contextmanager
def own_service(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A virtualizationservice of one's own, whose runtime directory is `folder`."""
    ready_read, ready_write = os.pipe()
    command = [sys.executable, "-m", "avf.virtualizationservice", "--user"]
    with open(ready_read, "rb") as ready:
        process = subprocess.Popen(
            [*command, f"--ready-fd={ready_write}"],
            pass_fds=[ready_write],
            env=os.environ | {"AVF_RUNTIME_DIR": str(folder)},
            stderr=subprocess.DEVNULL,
        )
        os.close(ready_write)
        with process:
            try:
                ready.read(1)
                yield process
            finally:
                process.terminate()


@contextlib.contextmanager
def own_virtmgr() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A virtmgr that has said that it is ready, and the socket to reach it by."""
    ready_read, ready_write = os.pipe()
    bootstrap, served = socket.socketpair()
    descriptors = (served.fileno(), ready_write)
    command = [sys.executable, "-P", "-m", "avf.virtmgr"]
    options = [f"--rpc-server-fd={descriptors[0]}", f"--ready-fd={descriptors[1]}"]
    with open(ready_read, "rb", buffering=0) as ready, bootstrap:
        process = subprocess.Popen(
            [*command, *options], pass_fds=descriptors, stderr=subprocess.DEVNULL
        )
        served.close()
        os.close(ready_write)
        with process:
            try:
                ready.read(1)
                yield process, bootstrap
            finally:
                bootstrap.close()


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
