"""What a clone is like before it is anybody's: VMs of one kind can be clones of one template."""

from dataclasses import dataclass

from avf.aidl.virtualizationservice import CpuTopology, VirtualMachineAppConfig
from avf.aidl.vm_control import PoolRequest


@dataclass(frozen=True, slots=True)
class CloneKind:
    """As far as the guest image does not say it."""

    debug: bool
    memory_mib: int
    """0: what the image asks for."""
    match_host: bool
    """As many CPUs as the host has, instead of one."""

    @property
    def debug_level(self) -> VirtualMachineAppConfig.DebugLevel:
        levels = VirtualMachineAppConfig.DebugLevel
        return levels.FULL if self.debug else levels.NONE

    @property
    def words(self) -> list[str]:
        """As the builder of templates takes it."""
        return [
            "--debug",
            "full" if self.debug else "none",
            "--memory",
            str(self.memory_mib),
            "--cpu-topology",
            "match_host" if self.match_host else "one_cpu",
        ]

    def __str__(self) -> str:
        """For people."""
        parts = ["debuggable" if self.debug else "not debuggable"]
        parts += [f"of {self.memory_mib} MiB"] if self.memory_mib else []
        parts += ["with all CPUs"] if self.match_host else []
        return ", ".join(parts)


def kind_of(config: VirtualMachineAppConfig) -> CloneKind | None:
    """Of the VM with that configuration; None if it can be no clone."""
    if config.fresh or config.protected_vm or config.wait_for_debugger or config.gdb_port:
        return None
    return CloneKind(
        config.debug_level != VirtualMachineAppConfig.DebugLevel.NONE,
        max(0, config.memory_mib),
        config.cpu_topology == CpuTopology.MATCH_HOST,
    )


def kind_of_request(request: PoolRequest) -> CloneKind:
    """What a pool is to begin with. Raises ValueError."""
    levels = {int(level) for level in VirtualMachineAppConfig.DebugLevel}
    if request.debug_level not in levels:
        raise ValueError(f"debugLevel is {request.debug_level}; there is no such level")
    if request.cpu_topology not in {int(topology) for topology in CpuTopology}:
        raise ValueError(f"cpuTopology is {request.cpu_topology}; there is no such topology")
    return CloneKind(
        request.debug_level != VirtualMachineAppConfig.DebugLevel.NONE,
        max(0, request.memory_mib),
        request.cpu_topology == CpuTopology.MATCH_HOST,
    )
