"""The console or the log of a VM, read as it comes."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from avf.binder import ExceptionCode
from avf.client import Refused
from avf.top.stream import Stream


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what the loop has yet to do."""
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


def test_what_is_said_is_read_until_the_end(threads: ThreadPoolExecutor) -> None:
    async def read() -> Stream:
        ours, theirs = socket.socketpair()
        stream = Stream()
        task = asyncio.create_task(stream.follow(lambda: theirs, threads))
        ours.sendall(b"one\ntw")
        await until(lambda: len(stream.lines) == 2)
        assert stream.attached and not stream.ended
        before = stream.version
        ours.sendall(b"o\n")
        await until(lambda: stream.version > before)
        ours.close()
        await task
        assert theirs.fileno() == -1
        return stream

    stream = asyncio.run(read())
    assert list(stream.lines) == ["one", "two"]
    assert stream.ended and not stream.problem


def test_a_refusal_says_why(threads: ThreadPoolExecutor) -> None:
    def refuse() -> socket.socket:
        raise Refused(ExceptionCode.SERVICE_SPECIFIC, "16 listen\x1b[2J to this VM already", -1)

    stream = Stream()
    asyncio.run(stream.follow(refuse, threads))
    assert stream.problem == r"16 listen\u{1b}[2J to this VM already"
    assert not stream.attached and not stream.ended


def test_a_stream_that_is_left_while_it_is_opened_is_closed(threads: ThreadPoolExecutor) -> None:
    opened, may_open = threading.Event(), threading.Event()
    ours, theirs = socket.socketpair()

    def attach() -> socket.socket:
        opened.set()
        may_open.wait(15)
        return theirs

    async def leave() -> None:
        task = asyncio.create_task(Stream().follow(attach, threads))
        await until(opened.is_set)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        may_open.set()

    with ours:
        asyncio.run(leave())
        ours.settimeout(15)
        assert ours.recv(1) == b""


def test_whoever_shares_the_socket_cannot_make_us_wait(threads: ThreadPoolExecutor) -> None:
    """The other side keeps our end, too, takes what has come, and has the end block."""

    async def read() -> None:
        ours, theirs = socket.socketpair()
        kept = theirs.dup()
        stream = Stream()
        task = asyncio.create_task(stream.follow(lambda: theirs, threads))
        await until(lambda: stream.attached)
        os.set_blocking(kept.fileno(), True)
        for _ in range(50):
            ours.sendall(b"x")
            with suppress(BlockingIOError):
                kept.recv(1, socket.MSG_DONTWAIT)
            await asyncio.sleep(0)
        ours.sendall(b"the last\n")
        await until(lambda: any("the last" in line for line in stream.lines))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        ours.close()
        kept.close()

    asyncio.run(read())
