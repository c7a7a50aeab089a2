"""What a VM says: its owner gets all of it, others the last of it and then what follows.

The VMM writes to pipes of ours, which a thread of the VM's own empties. An owner that reads slowly slows the guest
down, as if the VMM wrote to it directly; a listener that does so loses some and is told so. A guest that writes faster
than RATE is slowed down too, so that the other VMs of its client get on.

What anybody types goes to the one console that a guest reads from: the owner, by a stream of its own or by the socket
that is its console, and those who listen.
"""

import math
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from avf.pace import Pace
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.stream import ErrorStream, Listener, Stream
from avf.virtmgr.typed import Typed
from avf.vmm import VmSpec

MAX_LISTENERS = 16
LINGER_SECONDS = 1.0
"""How long `close` waits for an owner to take the rest."""
RATE = 32 << 20
"""Bytes a second that console and log of one VM may say together."""
_CHUNK = 64 << 10
_READ_COST = 16 << 10
"""What a read counts as at least, however little it brings."""


class VmOutput:
    """The console and the log of one VM, and its payload's standard error if that is kept apart.

    `close` ends it, whatever state it is in.
    """

    def __init__(
        self,
        *,
        console: bool,
        log: bool,
        typed: Typed | None = None,
        errors: ErrorStream | None = None,
    ) -> None:
        """Takes `errors` over and, if there is a stream of what the owner types, `typed`."""
        self._console = Stream(console)
        self._log = Stream(log)
        self._errors = errors
        self._streams: tuple[Stream, ...] = (self._console, self._log)
        if errors is not None:
            errors.log = self._log
            self._streams = (*self._streams, errors)
        self._lock = threading.Condition()
        self._connecting = threading.Lock()
        self._wake: int | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._typed = [] if typed is None else [typed]
        self._input: int | None = None
        self._unread = b""
        """Input that the guest has not taken yet."""
        self._pace = Pace(RATE, RATE)

    @property
    def has_console(self) -> bool:
        return self._console.spoken

    @property
    def is_typed_into(self) -> bool:
        """Whether the owner has a way to type to the guest."""
        return bool(self._typed)

    @property
    def has_log(self) -> bool:
        return self._log.spoken

    def recent_console(self) -> bytes:
        with self._lock:
            return bytes(self._console.recent)

    def lost(self) -> list[str]:
        """What its owner lacks and why, a text for each: `console: No space left on device`."""
        with self._lock:
            named = zip(("console", "log", "standard error"), self._streams, strict=False)
            return [f"{name}: {stream.lost}" for name, stream in named if stream.lost]

    @contextmanager
    def connected(self, spec: VmSpec) -> Iterator[VmSpec]:
        """`spec` with console and log going here; what it names is closed when the VMM has it.

        Raises VirtmgrError, OSError or RuntimeError.
        """
        with ExitStack() as stack:
            with self._lock:
                if self._closed:
                    raise VirtmgrError("This VM is gone")
                self._run()
                console = self._console.open(spec.console, stack)
                log = self._log.open(spec.log, stack)
                if self._errors is not None:
                    self._errors.begin()
                self._notify()
            yield replace(spec, console=console, log=log)

    def attach_console(self, *, live: bool) -> int:
        """A socket as of IVmControl. Raises VirtmgrError or OSError."""
        return self._attach(self._console, "console", live)

    def follow_log(self, *, live: bool) -> int:
        """As attach_console."""
        return self._attach(self._log, "log", live)

    def wait_until_ended(self, timeout: float) -> None:
        """Once the VMM is gone: waits until all that it has said is here, and with its owner."""
        with self._lock:
            for stream in self._streams:
                stream.expect_no_more()
            self._notify()
            self._lock.wait_for(lambda: all(stream.settled for stream in self._streams), timeout)

    def close(self) -> None:
        """Whoever listens hears the end; an owner may take the rest in its own time. Idempotent."""
        with self._lock:
            self._closed = True
            for stream in self._streams:
                stream.expect_no_more()
            self._notify()
            thread = self._thread
            if thread is None:
                self._stop_typing()
        if thread is not None:
            thread.join(LINGER_SECONDS)

    def _attach(self, stream: Stream, what: str, live: bool) -> int:
        with self._lock:
            if not stream.spoken:
                raise VirtmgrError(f"This VM has no {what} to show")
            if self._closed:
                raise VirtmgrError("This VM is gone")
            if sum(len(stream.listeners) for stream in self._streams) >= MAX_LISTENERS:
                raise VirtmgrError(f"{MAX_LISTENERS} listen to this VM already")
            self._run()
            listener = Listener(stream.recent, live)
            stream.listeners.append(listener)
            self._notify()
            return listener.peer.detach()

    def connect_input(self, connect: Callable[[int], None]) -> None:
        """Has what listeners say go to a pipe that `connect` has the VMM read. Raises OSError, or what that raises."""
        with self._connecting:
            if self._input is not None:
                return
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(write_end, False)
            try:
                connect(read_end)
            except BaseException:
                os.close(write_end)
                raise
            finally:
                os.close(read_end)
            with self._lock:
                if self._closed:
                    os.close(write_end)
                    return
                self._run()
                self._input = write_end
                self._notify()

    def _stop_typing(self) -> None:
        for typed in self._typed:
            typed.close()
        self._typed.clear()

    # The thread

    def _run(self) -> None:
        """Starts the thread, once. Raises OSError or RuntimeError."""
        if self._thread is not None or self._closed:
            return
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._serve, name="vm-output", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            os.close(self._wake)
            self._wake = None
            raise
        self._thread = thread

    def _notify(self) -> None:
        if self._wake is not None:
            os.eventfd_write(self._wake, 1)

    def _serve(self) -> None:
        # A terminal that stops those who use it from the background must not stop all of virtmgr.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU, signal.SIGTTIN})
        with self._lock:
            try:
                while not (self._closed and all(stream.settled for stream in self._streams)):
                    pause = self._pace.pause()
                    self._handle(self._wait(self._interests(paused=pause > 0), pause))
                    self._lock.notify_all()
            finally:
                self._end()

    def _wait(self, poll: select.poll, pause: float) -> dict[int, int]:
        self._lock.release()
        try:
            return dict(poll.poll(math.ceil(pause * 1000) if pause else None))
        finally:
            self._lock.acquire()

    def _interests(self, *, paused: bool) -> select.poll:
        poll = select.poll()
        assert self._wake is not None
        poll.register(self._wake, select.POLLIN)
        for stream in self._streams:
            behind = stream.owner is not None and stream.owner.is_behind
            if stream.source is not None and not behind and not paused:
                poll.register(stream.source, select.POLLIN)
            if stream.door is not None:
                poll.register(stream.door, select.POLLIN)
            if stream.owner is not None and stream.owner.waits:
                poll.register(stream.owner.fd, select.POLLOUT)
            for listener in stream.listeners:
                events = select.POLLOUT if listener.pending else 0
                if self._may_speak(stream, listener):
                    events |= select.POLLIN
                poll.register(listener.sock, events)
        if self._input is not None and self._unread:
            poll.register(self._input, select.POLLOUT)
        elif self._input is not None:
            for typed in self._typed:
                poll.register(typed.fd, select.POLLIN)
        return poll

    def _may_speak(self, stream: Stream, listener: Listener) -> bool:
        heard = stream is self._console and self._input is not None and not self._unread
        return heard and not listener.listens_only

    def _handle(self, ready: dict[int, int]) -> None:
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        for stream in self._streams:
            if stream.door in ready:
                stream.admit()
            if stream.source in ready:
                data = stream.read(_CHUNK)
                self._pace.spend(max(len(data), _READ_COST))
                stream.say(data) if data else stream.end()
            for listener in list(stream.listeners):
                events = ready.get(listener.sock.fileno(), 0)
                if events & select.POLLIN and self._may_speak(stream, listener):
                    self._listen(listener)
                if events & (select.POLLHUP | select.POLLERR):
                    stream.remove(listener)
            stream.flush_owner()
            stream.dismiss(everybody=self._closed)
        for typed in list(self._typed):
            if typed.fd in ready and not self._unread:
                self._take_typed(typed)
        self._pass_input_on()

    def _listen(self, listener: Listener) -> None:
        try:
            self._unread = listener.sock.recv(_CHUNK)
        except OSError:
            self._unread = b""
        listener.listens_only = not self._unread

    def _take_typed(self, typed: Typed) -> None:
        try:
            self._unread = typed.read()
        except BlockingIOError:
            return
        except OSError:
            self._unread = b""
        if not self._unread:
            self._typed.remove(typed)
            typed.close()

    def _pass_input_on(self) -> None:
        if self._input is None:
            self._unread = b""
        elif self._unread:
            try:
                self._unread = self._unread[os.write(self._input, self._unread) :]
            except BlockingIOError:
                pass
            except OSError:  # the VMM is gone
                self._unread = b""
                os.close(self._input)
                self._input = None
                self._stop_typing()

    def _end(self) -> None:
        """Lets go of everything: a VMM that still writes must not wait for us."""
        self._closed = True
        for stream in self._streams:
            stream.end()
            stream.flush_owner()
            if stream.owner is not None:
                stream.owner.close()
                stream.owner = None
            for listener in list(stream.listeners):
                listener.flush()
                stream.remove(listener)
        self._stop_typing()
        for fd in (self._input, self._wake):
            if fd is not None:
                os.close(fd)
        self._input = self._wake = None
        self._lock.notify_all()
