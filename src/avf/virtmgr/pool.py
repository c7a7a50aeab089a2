"""Clones that wait for their VMs, so that a start has little more to do than to run the payload.

One thread tops the pool up, one clone at a time, and only while no VM of this client is on its way to its payload. What
the clones are like follows what is asked for: the pool remembers as many requests as it has places, and keeps a clone
for each of them.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from avf.aidl.vm_control import PoolStatus
from avf.runtime import WAITING_NAME
from avf.virtmgr.context import VmContext
from avf.virtmgr.kind import CloneKind
from avf.vmm import TemplateError, WaitingQemu

MAX_CLONES = 64
"""How many may wait for one client."""
READY_SECONDS = 120.0
"""How long a clone may take to be ready; others come first."""
_QUIET_SECONDS = 0.5
"""How long a VM may take from being asked for to its start, in which no clone is made."""
_QUIET_POLL = 0.05
_RETRY_SECONDS = 1.0
_MAX_FAILURES = 3
"""After how many clones in a row that were no good no more are made."""

log = logging.getLogger(__name__)


class NotNow(Exception):
    """No clone can be made at present; the message says why."""


@dataclass(frozen=True, slots=True)
class WaitingVm:
    """A clone, and the context of the VM that it will be."""

    kind: CloneKind
    key: str
    """Of its template."""
    context: VmContext
    clone: WaitingQemu

    def end(self) -> None:
        """Returns when nothing of the clone is left, whether it was given to a VM or not."""
        self.clone.discard()
        self.clone.wait()

    def claim(self) -> None:
        """From now on it counts as a VM."""
        (self.context.temporary_directory / WAITING_NAME).unlink(missing_ok=True)


class Maker(Protocol):
    """Starts clones."""

    def start(self, kind: CloneKind) -> WaitingVm:
        """Returns before the clone is ready. Raises NotNow, or whatever keeps a clone from being made."""


class Pool:
    """At most as many clones as were asked for last. `close` ends them."""

    def __init__(self, maker: Maker, is_starting: Callable[[], bool]) -> None:
        """`is_starting`: whether a VM is on its way to its payload."""
        self._maker = maker
        self._is_starting = is_starting
        self._changed = threading.Condition()
        self._kinds: deque[CloneKind] = deque(maxlen=0)
        """What was asked for last, one for each place."""
        self._waiting: list[WaitingVm] = []
        self._preparing: WaitingVm | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._failures: Counter[CloneKind] = Counter()
        self._quiet_until = 0.0
        self._taken = 0
        self._missed = 0
        self._problem = ""

    def resize(self, count: int, kind: CloneKind) -> None:
        """Keeps `count` clones from now on, at first all for VMs of that kind. Raises ValueError or RuntimeError."""
        if not 0 <= count <= MAX_CLONES:
            raise ValueError(f"count is {count}; from 0 to {MAX_CLONES} clones can wait")
        with self._changed:
            self._kinds = deque([kind] * count, maxlen=count)
            self._failures.clear()
            self._problem = ""
            if self._thread is None and count and not self._closed:
                thread = threading.Thread(target=self._run, name="pool", daemon=True)
                thread.start()
                self._thread = thread
            self._changed.notify_all()

    def take(self, kind: CloneKind) -> WaitingVm | None:
        """One that waits, whom it belongs to from now on. None if there is none of that kind, which is remembered."""
        with self._changed:
            if not self._kinds.maxlen:
                return None
            self._kinds.append(kind)
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            found = next((vm for vm in self._waiting if vm.kind == kind), None)
            if found is None:
                self._missed += 1
            else:
                self._taken += 1
                self._failures[kind] = 0
                self._waiting.remove(found)
            self._changed.notify_all()
        if found is None:
            log.info("no clone waits for a VM that is %s", kind)
        return found

    def status(self) -> PoolStatus:
        with self._changed:
            return PoolStatus(
                wanted=len(self._kinds),
                waiting=len(self._waiting),
                is_settled=self._is_settled(),
                taken=self._taken,
                missed=self._missed,
                vmm_pids=[vm.clone.pid for vm in self._waiting],
                problem=self._problem,
            )

    def kill_all(self) -> None:
        """At once, without waiting for any; no more are made."""
        with self._changed:
            self._closed = True
            for vm in self._all():
                vm.clone.discard()
            self._changed.notify_all()

    def close(self) -> None:
        """Returns when nothing is left of them."""
        self.kill_all()
        if self._thread is not None:
            self._thread.join()

    # What follows runs in the pool's thread.

    def _run(self) -> None:
        while not self._closed:
            self._drop_surplus()
            kind = self._next_kind()
            if kind is None:
                self._wait(None)
            elif self._is_busy():
                self._wait(_QUIET_POLL)
            elif not self._make(kind):
                self._wait(_RETRY_SECONDS)
        with self._changed:
            left, self._waiting = self._waiting, []
        for vm in left:
            vm.context.close()

    def _is_busy(self) -> bool:
        """Whether a VM starts, or will in a moment, having been given its clone."""
        return time.monotonic() < self._quiet_until or self._is_starting()

    def _wait(self, timeout: float | None) -> None:
        with self._changed:
            if not self._closed and (timeout is not None or self._is_settled()):
                self._changed.wait(timeout)

    def _is_settled(self) -> bool:
        return self._next_kind() is None and not self._surplus()

    def _next_kind(self) -> CloneKind | None:
        """Of which a clone is lacking."""
        with self._changed:
            lacking = Counter(self._kinds)
            lacking.subtract(vm.kind for vm in self._waiting)
            for kind in reversed(self._kinds):
                if lacking[kind] > 0 and self._failures[kind] < _MAX_FAILURES:
                    return kind
            return None

    def _surplus(self) -> list[WaitingVm]:
        """Those that nobody has asked for lately."""
        room = Counter(self._kinds)
        surplus = []
        for vm in self._waiting:
            room[vm.kind] -= 1
            if room[vm.kind] < 0:
                surplus.append(vm)
        return surplus

    def _drop_surplus(self) -> None:
        with self._changed:
            surplus = self._surplus()
            for vm in surplus:
                self._waiting.remove(vm)
        for vm in surplus:
            vm.context.close()

    def _make(self, kind: CloneKind) -> bool:
        """Whether there is one more. What goes wrong is told once, by the status and the log."""
        try:
            vm = self._maker.start(kind)
        except NotNow as problem:
            self._note(str(problem))
            return False
        except Exception as error:  # noqa: BLE001  VMs start without a pool as well
            self._failed(kind, error)
            return False
        with self._changed:
            self._preparing = vm
            if self._closed:
                vm.clone.discard()
        try:
            self._wait_until_ready(vm.clone)
            self._watch(vm)
        except (TemplateError, RuntimeError) as error:
            self._failed(kind, error)
            vm.context.close()
            return False
        finally:
            with self._changed:
                self._preparing = None
        self._note("")
        with self._changed:
            self._waiting.append(vm)
        log.info("a clone waits with CID %d, for a VM that is %s", vm.context.cid, kind)
        return True

    def _wait_until_ready(self, clone: WaitingQemu) -> None:
        """It stands still while a VM starts. Raises TemplateError."""
        deadline = time.monotonic() + READY_SECONDS
        while not clone.is_ready(_QUIET_POLL):
            if time.monotonic() >= deadline:
                raise TemplateError(f"it was not ready within {READY_SECONDS:g} s")
            if self._is_busy():
                begin = time.monotonic()
                clone.hold(True)
                while self._is_busy() and not self._closed:
                    self._wait(_QUIET_POLL)
                clone.hold(False)
                deadline += time.monotonic() - begin

    def _failed(self, kind: CloneKind, error: Exception) -> None:
        with self._changed:
            self._failures[kind] += 1
            closed = self._closed
        if not closed:
            self._note(f"no clone waits: {error}")

    def _note(self, problem: str) -> None:
        with self._changed:
            is_new = problem != self._problem
            self._problem = problem
        if is_new and problem:
            log.warning("%s", problem)

    def _watch(self, vm: WaitingVm) -> None:
        """Sees to it that one which ends while it waits is replaced. Raises RuntimeError."""

        def watch() -> None:
            vm.clone.wait()
            with self._changed:
                if vm not in self._waiting:
                    return  # it has an owner, or nobody wants it
                self._waiting.remove(vm)
                self._failures[vm.kind] += 1
                self._changed.notify_all()
            log.warning("the clone that waits with CID %d has ended", vm.context.cid)
            with suppress(OSError):
                vm.context.close()

        threading.Thread(target=watch, name=f"waiting-{vm.context.cid}", daemon=True).start()

    def _all(self) -> list[WaitingVm]:
        return [*self._waiting, *([self._preparing] if self._preparing else [])]
