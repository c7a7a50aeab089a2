"""Clones of booted guests that wait for a client's next VMs."""

from dataclasses import dataclass

from avf.aidl.virtualizationservice import CpuTopology
from avf.aidl.vm_control import PoolRequest
from avf.aidl.vm_control import PoolStatus as RawStatus
from avf.client.checks import check_member, check_number
from avf.client.config import DebugLevel

MAX_WARM = 64
"""How many clones may wait for one client."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The clones that wait for VMs of one client."""

    wanted: int
    """How many are to wait."""
    waiting: int
    """How many do."""
    settled: bool
    """Whether no more will be made before another VM is created."""
    taken: int
    """How many VMs were clones that had waited."""
    missed: int
    """For how many VMs that can be clones none waited."""
    vmm_pids: tuple[int, ...]
    """The processes of the virtual machine monitors that wait."""
    problem: str | None
    """Why there are not as many as there should be, for people; None if nothing is known against it."""


def pool_request(
    count: int,
    debug_level: DebugLevel = DebugLevel.NONE,
    memory_mib: int | None = None,
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU,
) -> PoolRequest:
    """Raises ConfigError."""
    check_number("warm", count, 0, MAX_WARM)
    check_member("debug_level", debug_level, DebugLevel)
    check_number("memory_mib", memory_mib, 1, (1 << 31) - 1, " of MiB", optional=True)
    check_member("cpu_topology", cpu_topology, CpuTopology)
    return PoolRequest(
        count=count,
        debug_level=int(debug_level),
        memory_mib=memory_mib or 0,
        cpu_topology=int(cpu_topology),
    )


def pool_status(raw: RawStatus) -> PoolStatus:
    """As it is told to people."""
    return PoolStatus(
        raw.wanted,
        raw.waiting,
        raw.is_settled,
        raw.taken,
        raw.missed,
        tuple(raw.vmm_pids),
        raw.problem or None,
    )
