"""One end of a session without its sockets, and without its calls: the objects it knows, and its end."""

import threading
from collections.abc import Callable

from . import wire
from .budget import Account, Budget
from .errors import DeadObjectError, ProtocolError, Status, StatusError, note, report
from .objects import Handle, IBinder, Node, Remote, let_go
from .refs import RefTable

_MAX_RETURNS = 64
"""DEC_STRONG frames in one go."""


class SessionObjects:
    """What one end of a session knows of its objects, and of itself."""

    def __init__(
        self,
        *,
        server: bool,
        version: int,
        fd_mode: wire.FdMode = wire.FdMode.NONE,
        max_threads: int = 1,
        session_id: bytes = b"",
        root: Callable[[], IBinder | None] | None = None,
        account: Account | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self.account = account if account is not None else Budget().admit("peer")
        self.table = RefTable(server=server, account=self.account)
        self.version = version
        self.fds_refused = Status.OK if version >= 1 else Status.BAD_VALUE
        if fd_mode == wire.FdMode.NONE:
            self.fds_refused = Status.FDS_NOT_ALLOWED
        self.receives_fds = fd_mode == wire.FdMode.UNIX
        self.max_body = wire.max_body(version)
        self.lists_binders = version >= wire.BINDERS_LISTED
        self.max_threads = max_threads
        self.session_id = session_id
        self.root = root
        self.remote: Remote | None = None
        """What proxies call through; set by the owner before any frame is exchanged."""
        self.attention = False
        """Something is to be returned, or the session to be ended: call `returns`, then `drained`."""
        self.owing = False
        """Returns are due, but may wait until nothing else is to be done."""
        self.lost = False
        """The peer is gone: no call of ours reaches it, but calls it has made may still be received."""
        self.ended = False
        self.on_garbage: Callable[[], None] = lambda: None
        """Called after a proxy died, possibly in the middle of anything: must not block."""

    # The object table, for parcels

    def leaving(self, binder: IBinder) -> tuple[int, int]:
        with self.lock:
            self._check_reachable()
            if binder._remote is not None and binder._remote.remote is not self.remote:
                raise StatusError(
                    Status.INVALID_OPERATION, "a proxy of another session cannot be sent"
                )
            return self.table.leaving(binder)

    def entering(self, address: int, stability: int) -> IBinder:
        with self.lock:
            self._check_alive()
            assert self.remote is not None
            try:
                found = self.table.entering(address, stability, self.remote, self._note_garbage)
            finally:
                if self.table.owed:
                    self.attention = True
        return found.proxy(IBinder) if isinstance(found, Handle) else found

    def not_sent(self, addresses: list[int]) -> None:
        with self.lock:
            held = [self.table.dec_strong(address, 1) for address in addresses]
            self.attention = True
        del held

    def _note_garbage(self, node: Node) -> None:
        self.table.garbage.append(node)
        self.attention = True
        self.on_garbage()

    def _check_alive(self) -> None:
        if self.ended:
            raise DeadObjectError("the session has ended")

    def _check_reachable(self) -> None:
        if self.lost:
            raise DeadObjectError("the session has ended")

    # Giving back

    def dec_strong(self, body: bytes | bytearray) -> None:
        """The peer gives references back. Raises ProtocolError for a bad frame."""
        if len(body) != wire.DEC_STRONG_SIZE:
            raise ProtocolError(f"DEC_STRONG of {len(body)} bytes")
        self.given_back(*wire.DEC_STRONG_BODY.unpack(body))

    def given_back(self, address: int, amount: int) -> None:
        """The peer gives `amount` references of an object back."""
        table = self.table
        with self.lock:
            held = table.dec_strong(address, amount)
            if table.owed or table.drained:
                self.attention = True
        del held

    def returns(self) -> bytes:
        """Some of the DEC_STRONG frames that are due, now counted as sent; empty if none is."""
        with self.lock:
            frames = self.table.returns(_MAX_RETURNS)
            self.owing = False
        return b"".join(frames)

    def release(self, handle: Handle) -> None:
        """No call uses the handle any more; what was received of its object is due."""
        with self.lock:
            if not handle.closed:
                self.table.close(handle)
                self.attention = True

    def drained(self) -> bool:
        """Whether the session has to end, having lost its last object."""
        with self.lock:
            self.attention = bool(self.table.owed or self.table.garbage)
            return self.table.drained and not self.ended

    def unanswered(self) -> bool:
        """Whether the peer has not given back all that oneway calls from here lent it, which it does when it has served
        them.
        """
        with self.lock:
            nodes = self.table.nodes.values()
            return any(node.async_out and node.times_sent for node in nodes)

    # Telling

    @property
    def has_news(self) -> bool:
        """Whether `tell_released` or `take_ready` has something to do."""
        return bool(self.table.released or self.table.ready)

    def tell_released(self) -> None:
        """Tells local objects that the peer let go of them."""
        with self.lock:
            released, self.table.released = self.table.released, []
        for binder in released:
            if let_go(binder):
                try:
                    binder.on_released()
                except Exception as error:  # noqa: BLE001 - nobody else could catch it
                    if self.account.may_report():
                        report(error)

    def tell_dead(self, handles: list[Handle]) -> None:
        """Calls the death recipients of handles whose session has ended."""
        for handle in handles:
            recipients, handle.recipients = handle.recipients, []
            for recipient in recipients:
                try:
                    recipient()
                except Exception as error:  # noqa: BLE001 - nobody else could catch it
                    if self.account.may_report():
                        report(error)

    # Ending

    def lose(self) -> list[Handle] | None:
        """The peer is gone, or is not to be talked to any more.

        The handles to `tell_dead`, or None if that was known.
        """
        with self.lock:
            if self.lost:
                return None
            self.lost = True
            return self.table.handles()

    def end(self) -> bool:
        """Ends the session, once it is lost, and forgets all objects; False if it had ended already."""
        with self.lock:
            if self.ended:
                return False
            self.ended = True
            self.table.clear()
            unrun = self.table.unrun
        if unrun and self.account.may_report():
            note(
                f"{unrun} oneway calls had been received and were not run when their session ended"
            )
        return True

    def forget_owner(self) -> None:
        """Lets go, once ended, of what only a running session needs."""
        self.remote = None
        self.root = None
