"""Takes in tombstones: each connection to host vsock port 2000 is one, from its first byte to its end."""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from avf.virtualizationservice.parties import Parties, Party
from avf.virtualizationservice.quotas import Budget, RateLimit
from avf.virtualizationservice.tombstones import Draft, Ended, Sender, TombstoneStore

CHUNK_BYTES = 1024
UNDECIDED = 32
"""Connections, beyond those being received, of which it is not yet known whose they are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """What senders may ask for. Rates and numbers at a time are for each party, `connections` for all together."""

    bytes: int = 4 << 20
    idle_seconds: float = 10.0
    total_seconds: float = 60.0
    connections: int = 64
    connections_per_party: int = 8
    burst: int = 32
    per_second: float = 0.5


class TombstoneReceiver:
    """Accepts on any number of listeners, each connection served by a thread of its own.

    `identify` says whose a connection is; None turns it away. So do the limits of the party, and `allows`, which may
    take its time.
    """

    def __init__(
        self,
        store: TombstoneStore,
        identify: Callable[[socket.socket], Sender | None],
        limits: ReceiverLimits | None = None,
        *,
        allows: Callable[[Sender, socket.socket], bool] = lambda sender, sock: True,
        parties: Parties | None = None,
    ) -> None:
        self._store = store
        self._identify = identify
        self._allows = allows
        self._parties = parties or Parties()
        self._limits = limits or ReceiverLimits()
        self._slots = Budget(
            self._limits.connections, self._limits.connections_per_party, bounds_root=True
        )
        self._rate = RateLimit(self._limits.burst, self._limits.per_second)
        self._complaints = RateLimit(1, 0.1)
        self._lock = threading.Lock()
        self._stopped = False
        self._accepting: set[threading.Thread] = set()
        self._receiving: dict[threading.Thread, socket.socket] = {}
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
        thread = threading.Thread(target=self._receive, args=(sock,), name="tombstone", daemon=True)
        with self._lock:
            if len(self._receiving) >= self._limits.connections + UNDECIDED:
                sock.close()
                return
            self._receiving[thread] = sock
        try:
            thread.start()
        except RuntimeError as e:  # the system has no room for another thread
            log.error("cannot receive a tombstone: %s", e)
            sock.close()
            self._forget(thread)

    # Receiving

    def _receive(self, sock: socket.socket) -> None:
        try:
            with sock:
                if (sender := self._identify(sock)) is not None:
                    self._receive_from(sock, sender, self._parties.of(sender.uid))
        except OSError as e:
            log.debug("a sender of a tombstone has gone: %s", e)
        finally:
            self._forget(threading.current_thread())

    def _receive_from(self, sock: socket.socket, sender: Sender, party: Party) -> None:
        """Raises OSError if the peer has gone before a tombstone began."""
        if not self._slots.take(party):
            self._complain(party, "sends more tombstones at a time than it may")
            return
        try:
            if not self._rate.take(party):
                self._complain(party, "sends more tombstones than it may")
            elif not self._allows(sender, sock):
                self._complain(party, "may not file tombstones")
            else:
                self._file(sock, sender, party)
        finally:
            self._slots.give_back(party)

    def _complain(self, party: Party, what: str) -> None:
        if self._complaints.take(party):
            log.warning("%s %s", party, what, extra={"party": party})

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            del self._receiving[thread]

    def _file(self, sock: socket.socket, sender: Sender, party: Party) -> None:
        mine = {"party": party}
        log.info("%s sends a tombstone", _name(sender), extra=mine)
        try:
            with self._store.ring(party).draft() as draft:
                ended = self._copy(sock, draft)
                path = draft.file(sender, ended)
        except OSError as e:
            log.error("a tombstone of %s is lost: %s", _name(sender), e, extra=mine)
            return
        log.info("Received %d bytes from guest & wrote to tombstone file", draft.size, extra=mine)
        if ended is not Ended.COMPLETE:
            log.warning("%s: %s", path, ended.value, extra=mine)

    def _copy(self, sock: socket.socket, draft: Draft) -> Ended:
        deadline = time.monotonic() + self._limits.total_seconds
        ended = None
        while ended is None:
            room = self._limits.bytes - draft.size
            ended = self._copy_piece(sock, draft.write, room, deadline)
        if self._stopped:
            raise OSError("the service ends")
        return ended

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
