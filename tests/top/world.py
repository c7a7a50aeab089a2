"""VMs that nobody runs, for the view: what is known of them and what they say comes from the test."""

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from avf.client import DeathReason, DeathReport, VirtualMachineState, VmInfo
from avf.client.control import PayloadState, VmDetails, VmMetrics
from avf.top.model import Host, Snapshot, Vm
from avf.top.samples import Sample

HOST = Host(2, 7_950, 5_230)
STATES = {
    VirtualMachineState.NOT_STARTED: PayloadState.STARTING,
    VirtualMachineState.STARTING: PayloadState.STARTING,
    VirtualMachineState.STARTED: PayloadState.STARTED,
    VirtualMachineState.READY: PayloadState.READY,
    VirtualMachineState.FINISHED: PayloadState.FINISHED,
    VirtualMachineState.DEAD: PayloadState.READY,
}


def a_vm(
    cid: int = 2048,
    name: str = "counter",
    state: VirtualMachineState = VirtualMachineState.READY,
    *,
    cpu: Callable[[int], float] = lambda at: 12.0,
    guest: Callable[[int], float] = lambda at: 96.0,
    seconds: int = 60,
    report: DeathReport | None = None,
    debuggable: bool = True,
    user: str = "ada",
    uid: int = 1000,
    gone: bool = False,
    problem: str = "",
) -> Vm:
    """A VM that has been watched for so many seconds."""
    runs = state not in (VirtualMachineState.NOT_STARTED, VirtualMachineState.DEAD)
    started = state is not VirtualMachineState.NOT_STARTED
    info = VmInfo(cid, f"/run/user/{uid}/avf/vms/{cid}", uid, 4000 + cid)
    details = VmDetails(
        cid=cid, name=name, state=state, payload_state=STATES[state], vmm="qemu",
        vmm_pid=50_000 + cid if runs else None, requester_uid=uid, requester_pid=info.requester_pid,
        protected=False, memory_mib=256, cpus=1, age=seconds + 2.0,
        uptime=float(seconds) if started else None, has_console=debuggable, has_log=debuggable,
        takes_console_input=debuggable, debugger_socket=None,
    )  # fmt: skip
    samples = tuple(
        Sample(float(at), cpu(at), guest(at), guest(at) + 58) for at in range(seconds) if runs
    )
    metrics = VmMetrics(seconds * 120, 0, 98_304, 160_000, 98_304, 160_000)
    return Vm(info, user, details, metrics, samples, report, problem, gone)


def died(reason: DeathReason = DeathReason.KILLED, **changes: object) -> DeathReport:
    """How a VM may have ended."""
    step = "stopped on request of process 7 of uid 1000"
    report = DeathReport(reason, step, -9, ("started",), "", "", ("a line",))
    return replace(report, **changes)  # type: ignore[arg-type]


def foreign(cid: int, user: str = "bob") -> Vm:
    """A VM of somebody else, who does not let us in."""
    info = VmInfo(cid, f"/run/user/1001/avf/vms/{cid}", 1001, 777)
    return Vm(info, user, problem=f"only {user} and root can look into it")


def many(number: int) -> list[Vm]:
    """VMs of all kinds."""
    words = ["greeter", "counter", "ledger", "mailbox", "vault", "signer", "relay", "index"]
    states = [
        VirtualMachineState.READY, VirtualMachineState.STARTED, VirtualMachineState.READY,
        VirtualMachineState.STARTING, VirtualMachineState.READY, VirtualMachineState.FINISHED,
    ]  # fmt: skip
    return [
        a_vm(
            2048 + at,
            f"{words[at % 8]}-{at // 8}" if at >= 8 else words[at],
            states[at % 6],
            cpu=lambda x, at=at: max(0.2, 45 + 50 * math.sin(x / (4 + at % 7) + at)) / (1 + at % 5),
            guest=lambda x, at=at: 60 + 3 * at + 40 * (1 - math.exp(-x / 30)),
            seconds=30 + 211 * at,
        )
        for at in range(number)
    ]


@dataclass
class World:
    """Source and Doors of the view."""

    snapshot_now: Snapshot = field(default_factory=lambda: Snapshot((), HOST, is_first=False))
    consoles: dict[int, bytes] = field(default_factory=dict)
    """What is said at once, by CID."""
    logs: dict[int, bytes] = field(default_factory=dict)
    refusal: Exception | None = None
    """What attaching and stopping fail with."""
    watched: list[int | None] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    attached: list[tuple[str, int]] = field(default_factory=list)
    ends: dict[tuple[str, int], socket.socket] = field(default_factory=dict)
    """The VM's end of each stream."""
    command: tuple[str, ...] = ("true",)

    def show(self, *vms: Vm, problem: str = "") -> None:
        self.snapshot_now = Snapshot(vms, HOST, problem, is_first=False)

    def snapshot(self) -> Snapshot:
        return self.snapshot_now

    def watch(self, uid: int | None) -> None:
        self.watched.append(uid)

    def console(self, info: VmInfo) -> socket.socket:
        return self._attach("console", info.cid, self.consoles.get(info.cid, b""))

    def log(self, info: VmInfo) -> socket.socket:
        return self._attach("log", info.cid, self.logs.get(info.cid, b""))

    def _attach(self, what: str, cid: int, said: bytes) -> socket.socket:
        if self.refusal is not None:
            raise self.refusal
        ours, theirs = socket.socketpair()
        ours.sendall(said)
        self.close_end(what, cid)
        self.ends[what, cid] = ours
        self.attached.append((what, cid))
        return theirs

    def close_end(self, what: str, cid: int) -> None:
        if (end := self.ends.pop((what, cid), None)) is not None:
            end.close()

    def stop(self, info: VmInfo) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.stopped.append(info.cid)

    def shell(self, info: VmInfo) -> list[str]:
        return [*self.command]

    def close(self) -> None:
        for end in self.ends.values():
            end.close()
