"""Clones of a template beside cold starts of the same VM, in turn.

vm.warm_start_s          createVm to "payload started" of a clone, median
vm.warm.vs_cold          ratio to a cold start, median of the pairs
vm.clone.private_mib     memory of a clone whose payload has started, median: QEMU's own and the guest's
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

from avf.client import AppConfig, PayloadStarted, VirtualizationService, connect
from avf.client.control import open_vm
from bench.vm import prepare_app

ROUNDS = 5
_PRIVATE = ("Pss_Anon:", "Pss_Shmem:")
_BUILD = [sys.executable, "-P", "-m", "avf.virtmgr.template_builder", "--debug", "none"]


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"AVF_RUNTIME_DIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
        begin = time.perf_counter()
        subprocess.run(_BUILD, check=True, stdout=subprocess.DEVNULL)
        template = time.perf_counter() - begin
        warm, cold = (stack.enter_context(_service(value)) for value in ("on", "off"))
        config = prepare_app(cold, folder)
        _measure(warm, config), _measure(cold, config)
        pairs = [(_measure(warm, config), _measure(cold, config)) for _ in range(ROUNDS)]
        if warm.log_tail.count("begins as a clone") != ROUNDS + 1:
            raise RuntimeError("not every warm start was one")
        return {
            "vm.warm_start_s": median(clone[0] for clone, _ in pairs),
            "vm.warm.vs_cold": median(clone[0] / other[0] for clone, other in pairs),
            "vm.clone.private_mib": median(clone[1] for clone, _ in pairs),
            "vm.cold.private_mib": median(other[1] for _, other in pairs),
            "vm.template_s": template,
        }


@contextlib.contextmanager
def _service(warm: str) -> Iterator[VirtualizationService]:
    os.environ["AVF_WARM"] = warm
    with connect() as service:
        yield service


def _measure(service: VirtualizationService, config: AppConfig) -> tuple[float, float]:
    """Seconds until the payload was started, and MiB then."""
    begin = time.perf_counter()
    with service.create_vm(config) as vm:
        vm.start()
        for event in vm.events():
            if event == PayloadStarted():
                return time.perf_counter() - begin, _private_mib(vm.cid)
    raise RuntimeError("the payload has not started")


def _private_mib(cid: int) -> float:
    with open_vm(cid) as vm:
        pid = vm.details().vmm_pid
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(_PRIVATE)) / 1024
