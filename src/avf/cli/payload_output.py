"""The payload's own output: what a debuggable guest writes to its log, without the lines of its agent."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from avf.causes import words
from avf.cli.tell import print_note

_AGENT_LINE = re.compile(rb"\[ {0,8}\d{1,9}\.\d{3}\] agent: [^\n]*\n")
"""As `avf.guest.report.log` writes it, also behind a line of the payload's that has not ended."""
_AGENT_START = re.compile(rb"\[ {0,8}\d{1,9}\.\d{3}\] agent: ")
_START_BYTES = frozenset(b"[]. 0123456789agent:")
_LONGEST_START = 32
_CHUNK = 64 << 10
_LONGEST_LINE = 64 << 10
_PATIENCE = 5.0


class AgentFilter:
    """Takes the agent's lines out of a stream of bytes. Holds back at most one line that may be the agent's."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of `data`, and of what was held back, is the payload's."""
        data = _AGENT_LINE.sub(b"", self._held + data)
        keep = _beginning(data)
        self._held = data[keep:]
        return data[:keep]

    def end(self) -> bytes:
        """What is left when there is no more."""
        held, self._held = self._held, b""
        return b"" if _AGENT_START.match(held) else held


def _beginning(data: bytes) -> int:
    """Where in `data` a line of the agent's may begin that has not ended; its length if none does."""
    if started := _AGENT_START.search(data):
        return started.start() if len(data) - started.start() < _LONGEST_LINE else len(data)
    at = data.rfind(b"[", max(0, len(data) - _LONGEST_START))
    return at if at >= 0 and _START_BYTES.issuperset(data[at:]) else len(data)


@contextmanager
def copied_output(stream: TextIO | None) -> Iterator[int]:
    """A descriptor for a VM's log, whose payload lines appear on `stream` as they come; all of them, in the end.

    The VM must have ended when the context is left; what still keeps the descriptor open is not waited for. If the
    stream takes no more, as on a file system that is full, that is told; not if nobody reads it.
    """
    source, target = os.pipe2(os.O_CLOEXEC)
    failures: list[OSError] = []
    copier = threading.Thread(target=_copy, args=(source, stream, failures), daemon=True)
    copier.start()
    try:
        yield target
    finally:
        os.close(target)
        copier.join(_PATIENCE)
        for error in failures:
            print_note(f"Warning: output of the VM is lost: standard output: {words(error)}")


def _copy(source: int, stream: TextIO | None, failures: list[OSError]) -> None:
    write = _writer(stream)
    agent = AgentFilter()
    with open(source, "rb", buffering=0) as file:
        try:
            while data := file.read(_CHUNK):
                write(agent.feed(data))
            write(agent.end())
        except (BrokenPipeError, ValueError):
            pass  # nobody reads any more: the VM learns of it by the end of the pipe
        except OSError as error:
            failures.append(error)


def _writer(stream: TextIO | None) -> Callable[[bytes], None]:
    if stream is None:
        return lambda _data: None

    def write(data: bytes) -> None:
        if data:
            stream.buffer.write(data)
            stream.flush()

    return write
