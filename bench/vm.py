"""Cold start and stop of a VM beside bare QEMU with the same kernel, in turn.

vm.cold_start_s            createVm to "payload started", median
vm.bare_qemu_s             spawn of QEMU to the first line of a busybox initrd, median
vm.cold.vs_bare            ratio of the two, median of the pairs
vm.cold.cpu_vs_bare        likewise of the processor time that QEMU took, which other work on the host changes less
vm.libvirt_s               `virsh create` of the same kernel and initrd to that line, median; if virsh is installed
vm.cold.vs_libvirt         ratio of vm.cold_start_s to it, median of the pairs
vm.stop_ms                 stop() of a VM whose payload has just started, until all of it is gone, median
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from avf.client import AppConfig, PartitionType, PayloadStarted, VirtualizationService, connect
from avf.client.control import open_vm
from avf.image import Cpio
from avf.vmm import explain_acceleration, find_qemu, tsc_khz
from bench import _libvirt
from bench._programs import in_turn, ratio

ROUNDS = 7
IMAGE = Path(os.environ.get("AVF_IMAGE_DIR", "build/image"))
APK = Path("build/payload/sample.apk")
PARAMS = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests mitigations=off"


@dataclass(frozen=True, slots=True)
class _Start:
    """In seconds."""

    elapsed: float
    processor: float
    """That QEMU took meanwhile."""
    stop: float = 0


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"AVF_RUNTIME_DIR": str(folder), "AVF_WARM": "off"}
        service = stack.enter_context(connect())
        config = prepare_app(service, folder)
        initrd = folder / "initrd"
        initrd.write_bytes(_busybox_initrd())
        libvirt = _measure_libvirt(service, config, folder, initrd)
        _cold_start(service, config), _bare_qemu(initrd)
        pairs = [(_cold_start(service, config), _bare_qemu(initrd)) for _ in range(ROUNDS)]
        return {
            "vm.cold_start_s": median(cold.elapsed for cold, _ in pairs),
            "vm.bare_qemu_s": median(bare.elapsed for _, bare in pairs),
            "vm.cold.vs_bare": median(cold.elapsed / bare.elapsed for cold, bare in pairs),
            "vm.cold.cpu_vs_bare": median(cold.processor / bare.processor for cold, bare in pairs),
            "vm.stop_ms": 1000 * median(cold.stop for cold, _ in pairs),
        } | libvirt


def prepare_app(service: VirtualizationService, folder: Path) -> AppConfig:
    idsig, instance = folder / "idsig", folder / "instance"
    for path in (idsig, instance):
        path.touch()
    service.create_or_update_idsig_file(APK, idsig)
    service.initialize_writable_partition(instance, 10 << 20, PartitionType.ANDROID_VM_INSTANCE)
    return AppConfig(
        apk=APK, idsig=idsig, instance_image=instance, payload_binary_name="libhello.so"
    )


def _cold_start(service: VirtualizationService, config: AppConfig) -> _Start:
    begin = time.perf_counter()
    with service.create_vm(config) as vm:
        vm.start()
        for event in vm.events():
            if event == PayloadStarted():
                elapsed = time.perf_counter() - begin
                with open_vm(vm.cid) as control:
                    pid = control.details().vmm_pid
                assert pid is not None
                processor = _processor_seconds(pid)
                begin = time.perf_counter()
                vm.stop()
                return _Start(elapsed, processor, time.perf_counter() - begin)
    raise RuntimeError("the payload has not started")


def _busybox_initrd() -> bytes:
    archive = Cpio()
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    archive.character_device("dev/console", 5, 1)
    archive.file("init", b"#!/bin/busybox sh\necho READY\n/bin/busybox poweroff -f\n", 0o755)
    return archive.to_bytes()


def _bare_qemu(initrd: Path) -> _Start:
    qemu = find_qemu()
    found = explain_acceleration(qemu)
    accelerator = found.accelerator.value
    cpu = found.processor or "qemu64,+rdrand"
    command = [
        *(qemu, "-accel", accelerator, "-cpu", cpu, "-m", "256"),
        *("-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-serial", "stdio"),
        *(
            "-kernel",
            str(IMAGE / "vmlinux"),
            "-initrd",
            str(initrd),
            "-append",
            _params(accelerator),
        ),
    ]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"READY" in line:
                start = _Start(time.perf_counter() - begin, _processor_seconds(process.pid))
                process.stdout.read()
                return start
    raise RuntimeError("bare QEMU has not booted")


def _measure_libvirt(
    service: VirtualizationService, config: AppConfig, folder: Path, initrd: Path
) -> dict[str, float]:
    if reason := _libvirt.why_not():
        print(f"vm.libvirt_s is left out: {reason}", file=sys.stderr)
        return {}
    accelerator = explain_acceleration(find_qemu()).accelerator.value
    domain = _libvirt.Domain(folder, accelerator, IMAGE / "vmlinux", initrd, _params(accelerator))
    cold, peer = in_turn(
        ROUNDS, lambda: _cold_start(service, config).elapsed, lambda: domain.start(b"READY")
    )
    return {"vm.libvirt_s": median(peer), "vm.cold.vs_libvirt": ratio(cold, peer)}


def _params(accelerator: str) -> str:
    return PARAMS if accelerator == "kvm" else f"{PARAMS} tsc_early_khz={tsc_khz()}"


def _processor_seconds(pid: int) -> float:
    """What a process has taken so far, all its threads together. Source: proc_pid_stat(5), utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
