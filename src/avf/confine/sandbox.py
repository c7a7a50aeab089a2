"""A sandbox that bubblewrap is about to make."""

import json
import os
import select
import time
from contextlib import ExitStack

_MAX_INFO = 4096
_SECONDS = 10.0


class Sandbox:
    """Where bubblewrap tells what it has made, and the helpers it needs until then."""

    def __init__(self) -> None:
        self._info, self.info = os.pipe2(os.O_CLOEXEC)
        """`info` is bubblewrap's end of the pipe, to be inherited."""
        self.helpers = ExitStack()
        self.lenders = ExitStack()
        """Processes that the sandbox needs until the program has opened what it was lent; see `close`."""
        self._open = ExitStack()
        self._open.callback(os.close, self._info)
        self._given = self._open.enter_context(ExitStack())
        self._given.callback(os.close, self.info)

    def release(self) -> None:
        """bubblewrap has its end of the pipe."""
        self._given.close()

    def first_process(self, alive: int) -> int | None:
        """The pid of the sandbox's first process, as seen from here; None if bubblewrap ended without making one.

        Waits for bubblewrap to tell, or for `alive`, a pidfd, to say that it is gone; closes all but the lenders.
        """
        try:
            return _read_pid(self._info, alive)
        finally:
            self._end_helping()

    def close(self) -> None:
        """Ends all helpers. Idempotent."""
        self._end_helping()
        self.lenders.close()

    def _end_helping(self) -> None:
        self.helpers.close()
        self._open.close()


def _read_pid(info: int, alive: int) -> int | None:
    text = b""
    deadline = time.monotonic() + _SECONDS
    poll = select.poll()
    poll.register(info, select.POLLIN)
    poll.register(alive, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and len(text) < _MAX_INFO:
        ready = {fd for fd, _ in poll.poll(left * 1000)}
        if info not in ready:
            return None
        piece = os.read(info, _MAX_INFO)
        text += piece
        if not piece or text.rstrip().endswith(b"}"):
            break
    try:
        pid = json.loads(text)["child-pid"]
    except (ValueError, KeyError, TypeError):
        return None
    return pid if isinstance(pid, int) else None
