"""Many clones alive at once, each with a payload of its own that answers in the end.

vm.density.vms            how many
vm.density.private_mib    memory of one, median: QEMU's own and the guest's, without the pages that clones share
vm.density.private_max    the most that one has
vm.density.used_mib       what the host's available memory has fallen by, divided by their number
vm.density.last_vs_first  ratio of the time to "payload ready" of the last five clones to that of the first five
"""

import contextlib
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from avf.client import (
    AppConfig,
    PartitionType,
    StartKind,
    VirtualizationService,
    VirtualMachine,
    connect,
)
from bench.vm import prepare_app
from bench.warm import BUILD, private_mib

VMS = 50
PORT = 5678


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {
            "AVF_RUNTIME_DIR": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "AVF_WARM": "on",
        }
        subprocess.run(BUILD, check=True, stdout=subprocess.DEVNULL)
        service = stack.enter_context(connect())
        config = replace(prepare_app(service, folder), payload_binary_name="echo.py")
        before = _available_mib()
        times, vms = [], []
        for number in range(VMS):
            begin = time.perf_counter()
            vms.append(stack.enter_context(_start(service, config, folder / f"{number}.img")))
            times.append(time.perf_counter() - begin)
        used = (before - _available_mib()) / VMS
        private = [private_mib(_pid(vm)) for vm in vms]
        for vm in vms:
            _ask(vm)
        return {
            "vm.density.vms": len(vms),
            "vm.density.private_mib": median(private),
            "vm.density.private_max": max(private),
            "vm.density.used_mib": used,
            "vm.density.last_vs_first": mean(times[-5:]) / mean(times[:5]),
        }


def _start(service: VirtualizationService, config: AppConfig, instance: Path) -> VirtualMachine:
    instance.touch()
    service.initialize_writable_partition(instance, 1 << 20, PartitionType.ANDROID_VM_INSTANCE)
    vm = service.create_vm(replace(config, instance_image=instance))
    vm.start()
    vm.wait_until_ready(timeout=300)
    if vm.timeline().kind is not StartKind.CLONE:
        raise RuntimeError("a VM did not begin as a clone")
    return vm


def _ask(vm: VirtualMachine) -> None:
    with vm.connect_vsock(PORT) as connection, connection.makefile("rw") as stream:
        stream.write("hello\n")
        stream.flush()
        if "olleh" not in stream.readline():
            raise RuntimeError(f"the payload of the VM with CID {vm.cid} does not answer")


def _pid(vm: VirtualMachine) -> int:
    pid = vm.details().vmm_pid
    assert pid is not None
    return pid


def _available_mib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable")
