"""What is known of the VMs at one moment: values that do not change, which threads may hand on."""

from dataclasses import dataclass
from enum import Enum

from avf.client import DeathReason, DeathReport, VirtualMachineState, VmInfo
from avf.client.control import PayloadState, VmDetails, VmMetrics
from avf.top.lines import short
from avf.top.samples import Sample

MAX_NAME = 40


class Phase(Enum):
    """How far a VM has come, as far as it can be shown."""

    UNKNOWN = "unknown"
    MADE = "made"
    BOOTING = "booting"
    RUNNING = "running"
    READY = "ready"
    FINISHED = "finished"
    ENDED = "ended"
    FAILED = "failed"


_PHASES = {
    VirtualMachineState.NOT_STARTED: Phase.MADE,
    VirtualMachineState.STARTING: Phase.BOOTING,
    VirtualMachineState.STARTED: Phase.RUNNING,
    VirtualMachineState.READY: Phase.READY,
    VirtualMachineState.FINISHED: Phase.FINISHED,
    VirtualMachineState.DEAD: Phase.ENDED,
}
_FINE_ENDS = (DeathReason.SHUTDOWN, DeathReason.KILLED)


@dataclass(frozen=True, slots=True)
class Vm:
    """One VM as it was when it was last asked."""

    info: VmInfo
    user: str
    """The name of its user, or the uid."""
    details: VmDetails | None = None
    """None: nobody could look into it so far."""
    metrics: VmMetrics | None = None
    samples: tuple[Sample, ...] = ()
    report: DeathReport | None = None
    problem: str = ""
    """Why it cannot be looked into now."""
    gone: bool = False
    """It is not listed any more."""

    @property
    def cid(self) -> int:
        """Its CID."""
        return self.info.cid

    @property
    def name(self) -> str:
        """Fit for a terminal, and short."""
        return "" if self.details is None else short(self.details.name, MAX_NAME)

    @property
    def phase(self) -> Phase:
        """In which part of its life it is."""
        if self.report is not None:
            return Phase.ENDED if self.report.reason in _FINE_ENDS else Phase.FAILED
        if self.gone:
            return Phase.ENDED
        return Phase.UNKNOWN if self.details is None else _PHASES[self.details.state]

    @property
    def state(self) -> str:
        """AVF's word for the state; of a VM that has ended, the reason."""
        if self.report is not None:
            return str(self.report.reason)
        if self.gone:
            return "gone"
        return "-" if self.details is None else self.details.state.name

    @property
    def is_running(self) -> bool:
        """Whether its VMM runs."""
        return not self.gone and self.details is not None and self.details.vmm_pid is not None

    @property
    def now(self) -> Sample | None:
        """What it uses, if it runs."""
        return self.samples[-1] if self.is_running and self.samples else None

    @property
    def uptime(self) -> float | None:
        """Seconds since its start, if it runs."""
        return self.details.uptime if self.is_running and self.details is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, well or not."""
        return self.phase in (Phase.ENDED, Phase.FAILED)


@dataclass(frozen=True, slots=True)
class Stage:
    """A step in the life of a VM."""

    name: str
    done: bool


def stages(vm: Vm) -> tuple[Stage, ...]:
    """The life of a VM from its start to its end, as far as it has come."""
    if vm.details is None:
        return ()
    payload = vm.details.payload_state
    started = vm.details.uptime is not None
    return (
        Stage("started", started),
        Stage("payload", payload >= PayloadState.STARTED and started),
        Stage("ready", payload in (PayloadState.READY, PayloadState.FINISHED) and started),
        Stage("finished", payload is PayloadState.FINISHED),
        Stage("ended", vm.has_ended),
    )


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that the VMs run on."""

    cpus: int
    memory_mib: float
    """0: not known."""
    available_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known."""

    vms: tuple[Vm, ...] = ()
    host: Host = Host(1, 0.0)
    problem: str = ""
    """Why the VMs could not be listed the last time."""
    is_first: bool = True
    """Nobody has asked yet."""
