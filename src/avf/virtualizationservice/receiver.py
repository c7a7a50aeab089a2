"""Takes in tombstones: each connection to host vsock port 2000 is one, from its first byte to its end."""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from avf.virtualizationservice.quotas import RateLimit
from avf.virtualizationservice.tombstones import Ended, Sender, TombstoneStore

CHUNK_BYTES = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """What senders may ask for. Rates and numbers at a time are for each user, `connections` for all together."""

    bytes: int = 4 << 20
    idle_seconds: float = 10.0
    total_seconds: float = 60.0
    connections: int = 64
    connections_per_user: int = 8
    burst: int = 32
    per_second: float = 0.5


class TombstoneReceiver:
    """Accepts on any number of listeners, each connection served by a thread of its own.

    `identify` says whose an accepted connection is; None turns it away. What exceeds the limits is turned away.
    """

    def __init__(
        self,
        store: TombstoneStore,
        identify: Callable[[socket.socket], Sender | None],
        limits: ReceiverLimits | None = None,
    ) -> None:
        self._store = store
        self._identify = identify
        self._limits = limits or ReceiverLimits()
        self._rate = RateLimit(self._limits.burst, self._limits.per_second)
        self._complaints = RateLimit(1, 0.1)
        self._lock = threading.Lock()
        self._stopped = False
        self._accepting: set[threading.Thread] = set()
        self._receiving: dict[threading.Thread, socket.socket] = {}
        self._per_user: Counter[int] = Counter()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)

    @property
    def active(self) -> int:
        """How many tombstones are coming in."""
        return len(self._receiving)

    def start(self, listener: socket.socket) -> None:
        """Accepts in a thread from now on; the listener is taken over."""
        thread = threading.Thread(
            target=self._accept_all, args=(listener,), name="tombstones", daemon=True
        )
        self._accepting.add(thread)
        thread.start()

    def close(self) -> None:
        """Stops accepting, breaks off what is coming in, waits for all threads. Only once."""
        os.eventfd_write(self._wake, 1)
        for thread in self._accepting:
            thread.join()
        with self._lock:
            self._stopped = True
            receiving = list(self._receiving)
            for sock in self._receiving.values():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in receiving:
            thread.join()
        os.close(self._wake)

    # Accepting

    def _accept_all(self, listener: socket.socket) -> None:
        with listener:
            listener.setblocking(False)
            while self._wait(listener):
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    continue
                except OSError as e:
                    log.error("cannot accept a tombstone: %s", e)
                    time.sleep(0.05)  # out of descriptors, so not in a busy loop
                    continue
                self._take(sock)

    def _wait(self, listener: socket.socket) -> bool:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        return self._wake not in [fd for fd, _ in poll.poll()]

    def _take(self, sock: socket.socket) -> None:
        try:
            sender = self._identify(sock)
        except OSError:
            sock.close()  # gone already
            return
        if sender is None or not self._admit(sender):
            sock.close()
            return
        thread = threading.Thread(
            target=self._receive, args=(sock, sender), name="tombstone", daemon=True
        )
        with self._lock:
            self._receiving[thread] = sock
            self._per_user[sender.uid] += 1
        try:
            thread.start()
        except RuntimeError as e:  # the system has no room for another thread
            log.error("cannot receive a tombstone: %s", e)
            sock.close()
            self._forget(thread, sender)

    def _admit(self, sender: Sender) -> bool:
        limits = self._limits
        with self._lock:
            room = (
                len(self._receiving) < limits.connections
                and self._per_user[sender.uid] < limits.connections_per_user
            )
        if room and self._rate.take(sender.uid):
            return True
        if self._complaints.take(sender.uid):
            log.warning("uid %d sends more tombstones than it may", sender.uid)
        return False

    # Receiving

    def _receive(self, sock: socket.socket, sender: Sender) -> None:
        try:
            with sock:
                self._file(sock, sender)
        except OSError as e:
            log.error("a tombstone of %s is lost: %s", _name(sender), e)
        finally:
            self._forget(threading.current_thread(), sender)

    def _forget(self, thread: threading.Thread, sender: Sender) -> None:
        with self._lock:
            del self._receiving[thread]
            self._per_user[sender.uid] -= 1
            if not self._per_user[sender.uid]:
                del self._per_user[sender.uid]

    def _file(self, sock: socket.socket, sender: Sender) -> None:
        log.info("%s sends a tombstone", _name(sender))
        with self._store.ring(sender.uid).draft() as draft:
            deadline = time.monotonic() + self._limits.total_seconds
            ended = None
            while ended is None:
                ended = self._copy_piece(
                    sock, draft.write, self._limits.bytes - draft.size, deadline
                )
            if self._stopped:
                raise OSError("the service ends")
            path = draft.file(sender, ended)
        log.info("Received %d bytes from guest & wrote to tombstone file", draft.size)
        if ended is not Ended.COMPLETE:
            log.warning("%s: %s", path, ended.value)

    def _copy_piece(
        self, sock: socket.socket, write: Callable[[bytes], None], room: int, deadline: float
    ) -> Ended | None:
        left = min(self._limits.idle_seconds, deadline - time.monotonic())
        if left <= 0:
            return Ended.TIMEOUT
        sock.settimeout(left)
        try:
            data = sock.recv(CHUNK_BYTES)
        except TimeoutError:
            return Ended.TIMEOUT
        if not data:
            return Ended.COMPLETE
        write(data[:room])
        return Ended.TRUNCATED if len(data) > room else None


def _name(sender: Sender) -> str:
    return f"uid {sender.uid}" if sender.cid is None else f"CID {sender.cid} (uid {sender.uid})"
