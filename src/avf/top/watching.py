"""Watches all VMs: a thread lists them, and each has a thread that asks it, so that none holds up another."""

import os
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace

from avf.binder import BinderError
from avf.client import ClientError, VmInfo
from avf.client.control import list_vms
from avf.top.asking import MAX_PROBLEM, VmAsker, user_name
from avf.top.flag import Flag
from avf.top.lines import visible
from avf.top.model import Host, Snapshot, Vm

MAX_PER_USER = 100
MAX_WATCHED = 300
"""More VMs are listed, but not asked."""
MAX_ENDED = 50
"""So many VMs that have gone are remembered."""
_DEATH_SECONDS = 0.05
_DEATH_TRIES = 60
"""How often, and how many times, a VM whose VMM has ended is asked for the report."""


class Watching:
    """What is known of the VMs, brought up to date every `interval` seconds while the context is open."""

    def __init__(self, uid: int | None, interval: float) -> None:
        """`uid`: whose VMs; None for those of all users."""
        self._uid = uid
        self._interval = interval
        self._lock = threading.Lock()
        self._watches: dict[VmInfo, _Watch] = {}
        self._leaving: list[_Watch] = []
        self._others: dict[VmInfo, Vm] = {}
        self._ended: dict[VmInfo, Vm] = {}
        self._problem = ""
        self._listed = False
        self._stopped = False
        self._hurry = Flag()
        self._thread = threading.Thread(target=self._run, name="list-vms", daemon=True)

    def snapshot(self) -> Snapshot:
        with self._lock:
            vms = [watch.asker.last for watch in self._watches.values()]
            vms += self._others.values()
            vms += [vm for vm in self._ended.values() if self._wants(vm.info)]
            return Snapshot(tuple(vms), host(), self._problem, is_first=not self._listed)

    def watch(self, uid: int | None) -> None:
        """From now on the VMs of that user, or of all."""
        self._uid = uid
        self._hurry.hoist()

    def _wants(self, info: VmInfo) -> bool:
        return self._uid in (None, info.requester_uid)

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._list()
                self._hurry.wait(self._interval)
                self._hurry.lower()
        finally:
            self._hurry.close()

    def _list(self) -> None:
        try:
            infos = [info for info in list_vms() if self._wants(info)]
            problem = ""
        except (OSError, BinderError, ClientError, ValueError) as error:
            infos, problem = None, _problem(error)
        with self._lock:
            self._problem = problem
            self._listed = True
            if infos is not None and not self._stopped:
                self._take(infos)

    def _take(self, infos: list[VmInfo]) -> None:
        """A VM that is not listed any more is remembered, if it has run."""
        present = set(infos)
        for info in [info for info in self._watches if info not in present]:
            watch = self._watches.pop(info)
            watch.stop()
            self._leaving.append(watch)
            self._remember(watch.asker.last)
        self._leaving = [watch for watch in self._leaving if watch.is_alive]
        self._others = {}
        for info in infos:
            if info not in self._watches and (problem := self._start(info)):
                self._others[info] = Vm(info, user_name(info.requester_uid), problem=problem)

    def _start(self, info: VmInfo) -> str:
        """Begins to watch it; else why not. Whoever has VMs that do not answer uses up a share of their own."""
        watches = [*self._watches.values(), *self._leaving]
        users = Counter(watch.asker.last.info.requester_uid for watch in watches)
        if users[info.requester_uid] >= MAX_PER_USER:
            return f"only {MAX_PER_USER} VMs of a user are watched at once"
        if len(watches) >= MAX_WATCHED:
            return f"only {MAX_WATCHED} VMs are watched at once"
        try:
            self._watches[info] = _Watch(info, self._interval)
        except (RuntimeError, OSError) as error:
            return visible(str(error))
        return ""

    def _remember(self, vm: Vm) -> None:
        if self._wants(vm.info) and vm.details is not None and vm.details.uptime is not None:
            self._ended[vm.info] = replace(vm, gone=True, problem="")
        while len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def __enter__(self) -> "Watching":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Threads that hang in a call are left to themselves, and end when the call does."""
        with self._lock:
            self._stopped = True
            watches = [*self._watches.values()]
        self._hurry.hoist()
        for watch in watches:
            watch.stop()
        self._thread.join(1)
        for watch in watches:
            watch.join(0.1)


class _Watch:
    """The thread that asks one VM. Raises RuntimeError or OSError where there is no room for it."""

    def __init__(self, info: VmInfo, interval: float) -> None:
        self.asker = VmAsker(info, earlier=True)
        self._interval = interval
        self._done = Flag()
        self._thread = threading.Thread(target=self._run, name=f"watch-{info.cid}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._done.close()
            raise

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._done.hoist()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while not self._is_over(self.asker.ask()):
                pass
        finally:
            self.asker.close()
            self._done.close()

    def _is_over(self, vm: Vm) -> bool:
        """Waits until it is time to ask again, or the VMM has ended. Whether this was the last time."""
        pid = vm.details.vmm_pid if vm.is_running and vm.details is not None else None
        with ExitStack() as stack:
            process = []
            if pid is not None:
                with suppress(OSError, OverflowError):
                    process.append(os.pidfd_open(pid))
                    stack.callback(os.close, process[0])
            ready = self._done.wait(self._interval, *process)
        if -1 in ready:
            return True
        return bool(ready) and self._await_report()

    def _await_report(self) -> bool:
        """The VMM has just ended: asks until virtmgr knows why, before its client and with it virtmgr leaves."""
        for _ in range(_DEATH_TRIES):
            vm = self.asker.ask()
            if vm.report is not None or vm.problem:
                return False
            if self._done.wait(_DEATH_SECONDS):
                return True
        return False


def host() -> Host:
    """This machine."""
    memory = {"MemTotal": 0.0, "MemAvailable": 0.0}
    with suppress(OSError, ValueError), open("/proc/meminfo") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in memory:
                memory[name] = int(rest.split()[0]) / 1024
    return Host(len(os.sched_getaffinity(0)), memory["MemTotal"], memory["MemAvailable"])


def _problem(error: Exception) -> str:
    told = visible(str(error))[:MAX_PROBLEM]
    remedy = error.remedy if isinstance(error, ClientError) else ""
    return f"{told}: {remedy}" if remedy else told
