"""Many sessions, and what they cost while nothing happens."""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.binder import FdMode
from tests.interop.echo import IEcho

from .conftest import Serve

SESSIONS = 1000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def cpu_seconds_of(wait: float) -> float:
    """What the process, both ends of all sessions, uses in that time."""
    start = time.process_time()
    time.sleep(wait)
    return time.process_time() - start


def resident_kib() -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_sessions(serve: Serve) -> None:
    served = serve()
    before = resident_kib()
    sessions = [served.connect(FdMode.NONE) for _ in range(SESSIONS)]
    roots = [session.get_root(IEcho) for session in sessions]
    assert served.server.sessions == SESSIONS
    assert [root.add_ints(i, 1) for i, root in enumerate(roots)] == list(range(1, SESSIONS + 1))
    # Threads' stacks are only set apart, not used: a session takes tens of KiB, both ends together.
    assert (resident_kib() - before) / SESSIONS < 200
    assert min(cpu_seconds_of(0.2) for _ in range(3)) < 0.01
    for session in sessions:
        session.close()


def test_idle_sessions_of_every_kind_cost_nothing(serve: Serve) -> None:
    """With threads and connections in both directions."""
    served = serve(max_threads=4)
    sessions = [served.connect(incoming_threads=3) for _ in range(20)]
    roots = [session.get_root(IEcho) for session in sessions]
    assert threading.active_count() > 20 * (4 + 3)
    assert min(cpu_seconds_of(0.2) for _ in range(3)) < 0.005
    assert [root.add_ints(1, 1) for root in roots] == [2] * 20


SMALL_STACKS = """
import socket, sys, threading
threading.stack_size(128 << 10)
from avf.binder import Server, connect, unix
from tests.interop.echo import Echo, IEcho
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
server = Server(Echo(), max_threads=2)
server.start(listener)
with connect(unix(sys.argv[1]), incoming_threads=1) as session:
    print(session.get_root(IEcho).nest(Echo(), 40))
server.shutdown()
"""


def test_threads_need_small_stacks_only(tmp_path: Path) -> None:
    """Of 128 KiB, with calls nested forty deep."""
    command = [sys.executable, "-c", SMALL_STACKS, tmp_path / "sock"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    assert done.stdout == "40\n"
