"""A command that runs in a guest, for asyncio."""

import asyncio
import io
import os
import signal
from typing import BinaryIO, Self

from avf.client.command import GuestCommand as BlockingCommand


class GuestCommand:
    """As `avf.client.GuestCommand`: `stdin` is a StreamWriter, `stdout` and `stderr` are StreamReaders."""

    def __init__(
        self,
        command: BlockingCommand,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        transports: list[asyncio.BaseTransport],
    ) -> None:
        self._command = command
        self._transports = transports
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    @property
    def returncode(self) -> int | None:
        """The exit status, or -N for signal N; None while it runs."""
        return self._command.returncode

    async def wait(self) -> int:
        """Waits until it has ended and all it has written was taken; `returncode`. Raises ShellFailed."""
        return await asyncio.to_thread(self._command.wait)

    def send_signal(self, number: int) -> None:
        """To all of its process group."""
        self._command.send_signal(number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def resize(self, rows: int, columns: int) -> None:
        """Tells it that its terminal has another size."""
        self._command.resize(rows, columns)

    async def close(self) -> None:
        """Hangs it up if it still runs, and closes its streams. Idempotent."""
        for transport in self._transports:
            transport.close()
        await asyncio.to_thread(self._command.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


async def with_streams(command: BlockingCommand) -> GuestCommand:
    """Gives a command's pipes to the event loop."""
    transports: list[asyncio.BaseTransport] = []
    try:
        stdout = await _reader(command.stdout, transports)
        stderr = await _reader(command.stderr, transports)
        stdin = await _writer(command.stdin, transports)
        for stream in (command.stdin, command.stdout, command.stderr):
            stream.close()  # the loop has descriptors of its own of the same pipes
    except BaseException:
        for transport in transports:
            transport.close()
        command.close()
        raise
    return GuestCommand(command, stdin, stdout, stderr, transports)


async def _reader(
    stream: BinaryIO, transports: list[asyncio.BaseTransport]
) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), _duplicate(stream, "rb")
    )
    transports.append(transport)
    return reader


async def _writer(
    stream: BinaryIO, transports: list[asyncio.BaseTransport]
) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, _duplicate(stream, "wb"))
    transports.append(transport)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _duplicate(stream: BinaryIO, mode: str) -> io.FileIO:
    return io.FileIO(os.dup(stream.fileno()), mode)
