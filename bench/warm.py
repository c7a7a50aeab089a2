"""Clones of a template, and clones that have waited, beside cold starts of the same VM, in turn.

vm.warm_start_s          createVm to "payload started" of a clone, median
vm.warm.vs_cold          ratio to a cold start, median of the pairs
vm.warm.cpu_vs_cold      ratio of the processor time that QEMU takes for it, median of the pairs
vm.pool_start_s          createVm to "payload started" of a clone that has waited, median
vm.pool.vs_cold          ratio to a cold start, median of the rounds
vm.pool.cpu_vs_cold      ratio of the processor time that QEMU takes for it, median of the rounds
vm.clone.private_mib     memory of a clone whose payload has started, median: QEMU's own and the guest's, without the
                         pages that it shares with other clones
vm.cold.private_mib      the same of a VM that started cold
vm.template_s            making the template
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from avf.client import AppConfig, PayloadStarted, StartKind, VirtualizationService, connect
from bench.vm import prepare_app

ROUNDS = 5
_PRIVATE = ("Pss_Anon:", "Pss_Shmem:")
BUILD = [sys.executable, "-P", "-m", "avf.virtmgr.template_builder", "--debug", "none"]


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"AVF_RUNTIME_DIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
        begin = time.perf_counter()
        subprocess.run(BUILD, check=True, stdout=subprocess.DEVNULL)
        template = time.perf_counter() - begin
        pool, warm = (stack.enter_context(_service("on")) for _ in range(2))
        cold = stack.enter_context(_service("off"))
        config = prepare_app(cold, folder)
        rounds = [_round(pool, warm, cold, config) for _ in range(1 + ROUNDS)][1:]
        return {
            "vm.pool_start_s": median(waited.seconds for waited, _, _ in rounds),
            "vm.pool.vs_cold": median(
                waited.seconds / other.seconds for waited, _, other in rounds
            ),
            "vm.pool.cpu_vs_cold": median(waited.cpu / other.cpu for waited, _, other in rounds),
            "vm.warm_start_s": median(clone.seconds for _, clone, _ in rounds),
            "vm.warm.vs_cold": median(clone.seconds / other.seconds for _, clone, other in rounds),
            "vm.warm.cpu_vs_cold": median(clone.cpu / other.cpu for _, clone, other in rounds),
            "vm.clone.private_mib": median(clone.mib for _, clone, _ in rounds),
            "vm.cold.private_mib": median(other.mib for _, _, other in rounds),
            "vm.template_s": template,
        }


class _Start(NamedTuple):
    """One start, from createVm to "payload started"."""

    seconds: float
    cpu: float
    """Of QEMU, since createVm, in seconds."""
    mib: float
    """What QEMU and the guest had in the end."""


def _round(
    pool: VirtualizationService,
    warm: VirtualizationService,
    cold: VirtualizationService,
    config: AppConfig,
) -> tuple[_Start, _Start, _Start]:
    """The clone is made when nobody else is measured."""
    pool.keep_clones_waiting(1)
    while not (status := pool.pool_status()).waiting:
        if status.settled:
            raise RuntimeError(status.problem)
        time.sleep(0.1)
    before = _cpu_seconds(status.vmm_pids[0])
    waited = _measure(pool, config, StartKind.WAITED, before)
    pool.keep_clones_waiting(0)
    return (
        waited,
        _measure(warm, config, StartKind.CLONE),
        _measure(cold, config, StartKind.COLD),
    )


@contextlib.contextmanager
def _service(warm: str) -> Iterator[VirtualizationService]:
    os.environ["AVF_WARM"] = warm
    with connect() as service:
        yield service


def _measure(
    service: VirtualizationService, config: AppConfig, kind: StartKind, cpu_before: float = 0
) -> _Start:
    begin = time.perf_counter()
    with service.create_vm(config) as vm:
        vm.start()
        for event in vm.events():
            if event == PayloadStarted():
                seconds = time.perf_counter() - begin
                if vm.timeline().kind is not kind:
                    raise RuntimeError(f"a start that should be {kind.name} was another")
                pid = vm.details().vmm_pid
                assert pid is not None
                return _Start(seconds, _cpu_seconds(pid) - cpu_before, private_mib(pid))
    raise RuntimeError("the payload has not started")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def private_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    shared = "Pss_Shmem:" if "avf-template" in Path(f"/proc/{pid}/maps").read_text() else None
    own = tuple(name for name in _PRIVATE if name != shared)
    return sum(int(line.split()[1]) for line in lines if line.startswith(own)) / 1024
