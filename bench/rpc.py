"""RPC Binder over AF_UNIX between two processes, beside a bare blocking ping-pong, grpcio and dbus-fast.

python -m bench.rpc        prints the figures as JSON
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avf.binder import FdMode, Interface, Server, aio, connect, method, unix

from . import _dbus_peer, _grpc_peer

CALLS = 5000
TURNS = 5
PEER_CALLS = 2000
ONEWAY_CALLS = 20_000
ECHOES = 400
ECHO_SIZE = 65_536
MODES = ((FdMode.NONE, ""), (FdMode.UNIX, ".fd_mode_unix"))


class IBench(Interface, descriptor="avf.bench.IBench"):
    @method(1)
    def add_ints(self, a: int, b: int) -> int:
        raise NotImplementedError

    @method(2)
    def echo_bytes(self, value: bytes) -> bytes:
        raise NotImplementedError

    @method(3, oneway=True)
    def note(self, value: int) -> None:
        raise NotImplementedError

    @method(4)
    def noted(self) -> int:
        raise NotImplementedError


class Bench(IBench):
    def __init__(self) -> None:
        self.count = 0

    def add_ints(self, a: int, b: int) -> int:
        return a + b

    def echo_bytes(self, value: bytes) -> bytes:
        return value

    def note(self, value: int) -> None:
        self.count += 1

    def noted(self) -> int:
        count, self.count = self.count, 0
        return count


def run() -> dict[str, float]:
    """Medians: microseconds per call, oneway calls a second, MB/s each way of echoed arrays.

    `vs_raw_socket` says how often a bare ping-pong fits into a call; `vs_grpcio` (the faster of its two faces) and
    `vs_dbus_fast` how often a call fits into one of theirs; `aio.vs_blocking` how often it fits into one of asyncio's.
    """
    figures: dict[str, float] = {}
    with one_cpu():
        with _peer("raw") as path:
            raw = figures["rpc.raw_socket.p50_us"] = _raw_ping_pong(path)
        with _peer("serve") as path:
            for mode, suffix in MODES:
                with connect(unix(path), fd_mode=mode) as session:
                    root = session.get_root(IBench)
                    latency = _median_us(lambda root=root: root.add_ints(1, 2), CALLS)
                    figures[f"rpc.add_ints.p50_us{suffix}"] = latency
            figures |= _both_faces(path)
    with _peer("serve") as path:
        for mode, suffix in MODES:
            with connect(unix(path), fd_mode=mode) as session:
                root = session.get_root(IBench)
                figures[f"rpc.oneway.per_s{suffix}"] = _oneway_rate(root)
                figures[f"rpc.echo_64k.mb_per_s{suffix}"] = _echo_rate(root)
    with one_cpu():
        figures |= _peers()
    ours = figures["rpc.add_ints.p50_us"]
    grpcio = min(figures["rpc.peer.grpcio.p50_us"], figures["rpc.peer.grpcio_aio.p50_us"])
    figures["rpc.add_ints.vs_raw_socket"] = ours / raw
    figures["rpc.add_ints.vs_grpcio"] = grpcio / ours
    figures["rpc.add_ints.vs_dbus_fast"] = figures["rpc.peer.dbus_fast.p50_us"] / ours
    return figures


def _peers() -> dict[str, float]:
    """What the same call takes elsewhere, in microseconds."""
    figures: dict[str, float] = {}
    with _peer("grpc") as path:
        figures["rpc.peer.grpcio.p50_us"] = _grpc_peer.median_us(path, PEER_CALLS)
    with _peer("grpc_aio") as path:
        figures["rpc.peer.grpcio_aio.p50_us"] = _grpc_peer.median_us_aio(path, PEER_CALLS)
    with (
        tempfile.TemporaryDirectory() as directory,
        _dbus_peer.bus(str(Path(directory, "bus"))) as address,
        _peer("dbus", address),
    ):
        figures["rpc.peer.dbus_fast.p50_us"] = _dbus_peer.median_us(address, PEER_CALLS)
    return figures


@contextmanager
def one_cpu() -> Iterator[None]:
    """This process, and those it starts, on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _median_us(call: object, count: int) -> float:
    assert callable(call)
    for _ in range(count // 10):
        call()
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def _both_faces(path: str) -> dict[str, float]:
    """The asyncio face beside the blocking one, by turns."""
    blocking, awaited = [], []
    for _ in range(TURNS):
        with connect(unix(path)) as session:
            root = session.get_root(IBench)
            blocking.append(_median_us(lambda root=root: root.add_ints(1, 2), CALLS // TURNS))
        awaited.append(asyncio.run(_median_us_aio(path, CALLS // TURNS)))
    own = statistics.median(awaited)
    return {
        "rpc.add_ints.aio.p50_us": own,
        "rpc.add_ints.aio.vs_blocking": own / statistics.median(blocking),
    }


async def _median_us_aio(path: str, count: int) -> float:
    async with await aio.connect(unix(path)) as session:
        root = aio.proxy(await session.get_root(IBench))
        for _ in range(count // 10):
            await root.add_ints(1, 2)
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            await root.add_ints(1, 2)
            times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def _oneway_rate(root: IBench) -> float:
    rates = []
    for _ in range(3):
        root.noted()
        start = time.perf_counter()
        for i in range(ONEWAY_CALLS):
            root.note(i)
        seen = root.noted()
        while seen < ONEWAY_CALLS:
            seen += root.noted()
        rates.append(ONEWAY_CALLS / (time.perf_counter() - start))
    return statistics.median(rates)


def _echo_rate(root: IBench) -> float:
    data = bytes(ECHO_SIZE)
    return ECHO_SIZE / _median_us(lambda: root.echo_bytes(data), ECHOES)


def _raw_ping_pong(path: str) -> float:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        message = bytes(64)

        def call() -> None:
            sock.send(message)
            sock.recv(4096)

        return _median_us(call, CALLS)


@contextmanager
def _peer(role: str, address: str = "") -> Iterator[str]:
    """The other process, listening at the path, or behind an address."""
    with tempfile.TemporaryDirectory() as directory:
        path = address or str(Path(directory, "bench.sock"))
        command = [sys.executable, "-m", "bench.rpc", role, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield path
            finally:
                process.terminate()


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(50)
    print("ready", flush=True)
    return listener


def _serve(path: str) -> None:
    Server(Bench(), fd_modes=frozenset({FdMode.NONE, FdMode.UNIX})).serve(_listen(path))


def _serve_raw(path: str) -> None:
    with _listen(path) as listener, listener.accept()[0] as sock:
        while piece := sock.recv(4096):
            sock.send(piece)


_ROLES = {
    "serve": _serve,
    "raw": _serve_raw,
    "grpc": _grpc_peer.serve,
    "grpc_aio": _grpc_peer.serve_aio,
    "dbus": _dbus_peer.serve,
}


def main() -> None:
    if len(sys.argv) == 3:
        _ROLES[sys.argv[1]](sys.argv[2])
    else:
        print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
