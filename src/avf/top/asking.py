"""Asks one VM for what it is and what it uses."""

import os
import pwd
import time
from dataclasses import replace
from functools import cache

from avf.causes import words
from avf.client import DeathReport, VmInfo
from avf.client.control import ControlledVm, VmDetails, open_vm_in
from avf.top.lines import visible
from avf.top.model import Vm
from avf.top.samples import LENGTH, History

MAX_TEXT = 4096
MAX_PROBLEM = 300
MAX_USER = 32
MAX_ITEMS = 100


class VmAsker:
    """Keeps a connection to one VM. Whatever that does, `ask` returns."""

    def __init__(self, info: VmInfo, *, earlier: bool = False) -> None:
        """`earlier`: its samples begin with what virtmgr has measured so far, else with the first answer."""
        self._earlier = earlier
        self._vm: ControlledVm | None = None
        self._history = History()
        self.last = Vm(info, user_name(info.requester_uid))
        """The last answer."""

    def ask(self) -> Vm:
        """What is known now. If it does not answer, `problem` says why, and the rest is as before."""
        try:
            if self._vm is None:
                self._vm = open_vm_in(self.last.info.temporary_directory)
            self.last = self._answer(self._vm)
        except Exception as error:  # noqa: BLE001 - whatever another user's virtmgr has us stumble over
            self.close()
            self.last = replace(self.last, problem=_problem(self.last, error))
        return self.last

    def _answer(self, vm: ControlledVm) -> Vm:
        details, metrics = vm.details(), vm.metrics()
        now = time.monotonic()
        if self._earlier and details.uptime is not None:
            self._earlier = False
            self._history.add_earlier(now, details.uptime, vm.history()[-LENGTH:])
        if details.vmm_pid is not None and details.uptime is not None:
            self._history.add(now, metrics, details.uptime)
        report = None if details.vmm_pid is not None else vm.death_report()
        return replace(
            self.last,
            details=_bounded_details(details),
            metrics=metrics,
            samples=self._history.samples(),
            report=None if report is None else _bounded_report(report),
            problem="",
        )

    def close(self) -> None:
        """Closes the connection to the VM. The next question makes another."""
        if self._vm is not None:
            self._vm.close()
            self._vm = None


@cache
def user_name(uid: int) -> str:
    """The user's name, or the number where nobody has it."""
    try:
        return visible(pwd.getpwuid(uid).pw_name[:MAX_USER])
    except (KeyError, OverflowError):
        return str(uid)


def _problem(vm: Vm, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"only {vm.user} and root can look into it"
    if isinstance(error, FileNotFoundError) and vm.info.requester_uid != os.getuid():
        return f"it is {vm.user}'s, in a directory that cannot be seen from here"
    return visible(words(error)[:MAX_PROBLEM])


def _bounded_details(details: VmDetails) -> VmDetails:
    """What virtmgr says counts as its user's word: it must not fill our memory."""
    return replace(details, name=details.name[:MAX_TEXT], vmm=details.vmm[:MAX_TEXT])


def _bounded_report(report: DeathReport) -> DeathReport:
    return replace(
        report,
        last_step=report.last_step[:MAX_TEXT],
        vmm_events=_bounded(report.vmm_events),
        vmm_stderr=report.vmm_stderr[-MAX_TEXT:],
        failure=report.failure[:MAX_TEXT],
        console_tail=_bounded(report.console_tail),
        lost_output=_bounded(report.lost_output),
    )


def _bounded(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text[:MAX_TEXT] for text in texts[-MAX_ITEMS:])
