"""A server to be attacked, in a process of its own: python -m tests.attack.binder_server PATH FACE OPTIONS

FACE is `blocking` or `asyncio`, OPTIONS are a JSON object of `PARTY` limits, `TOTAL` limits, rates and server options.
Parties are processes. It prints a line once it listens, serves until its standard input ends, and then prints what the
budget still counts as held.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from avf.binder import (
    PARTY_LIMITS,
    TOTAL_LIMITS,
    Budget,
    FdMode,
    Limits,
    Rate,
    Server,
    aio,
    nobody,
)
from tests.binder.conftest import listening
from tests.interop.echo import Echo, IEcho


class Coroutines:
    """The part of IEcho that is attacked, as coroutines."""

    def __init__(self) -> None:
        self.echo = Echo()

    async def add_ints(self, a: int, b: int) -> int:
        return a + b

    async def echo_bytes(self, value: bytes) -> bytes:
        return value

    async def return_binder(self) -> IEcho:
        return Echo()

    async def append(self, v: int) -> None:
        self.echo.append(v)

    async def throw_exception(self, code: int, message: str) -> None:
        raise ValueError(message)


class Faulty(Echo):
    def throw_exception(self, code: int, message: str) -> None:
        raise ValueError(message)


def settle(budget: Budget) -> Limits:
    """What is held once everybody has gone."""
    deadline = time.monotonic() + 20
    while any(budget.used) and time.monotonic() < deadline:
        time.sleep(0.02)
    return budget.used


def options(given: dict[str, Any]) -> tuple[Budget, dict[str, Any]]:
    budget = Budget(
        party=PARTY_LIMITS._replace(**given.pop("party", {})),
        total=TOTAL_LIMITS._replace(**given.pop("total", {})),
        privileged=nobody,
        **{name: Rate(*given.pop(name)) for name in ("calls", "arrivals") if name in given},
    )
    modes = frozenset({FdMode.NONE, FdMode.UNIX})
    server = {"fd_modes": modes, "party": lambda peer: peer.pid, "budget": budget, **given}
    return budget, server


def serve(path: Path, given: dict[str, Any]) -> Limits:
    budget, server_options = options(given)
    server = Server(Faulty(), **server_options)
    server.start(listening(path))
    print("ready", flush=True)
    sys.stdin.read()
    left = settle(budget)
    server.shutdown()
    return left


async def serve_asyncio(path: Path, given: dict[str, Any]) -> Limits:
    budget, server_options = options(given)
    async with aio.Server(aio.serving(IEcho, Coroutines()), **server_options) as server:
        server.start(listening(path))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        return await asyncio.to_thread(settle, budget)


def main() -> None:
    path, face, given = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    left = asyncio.run(serve_asyncio(path, given)) if face == "asyncio" else serve(path, given)
    print(json.dumps(left), flush=True)


if __name__ == "__main__":
    main()
