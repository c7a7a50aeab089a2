"""Cold start of a VM beside bare QEMU with the same kernel, and what a virtmgr costs.

vm.cold_start_s            createVm to "payload started", median
vm.bare_qemu_s             spawn of QEMU to the first line of a busybox initrd, median
vm.cold_start.vs_bare      ratio of the two, measured in turn
virtmgr.start_s            spawn to ready, median
virtmgr.start.vs_python    ratio to `python -c pass`
virtmgr.rss_mib            resident memory when idle
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from avf.client import AppConfig, PartitionType, PayloadStarted, VirtualizationService, connect
from avf.image import Cpio
from avf.vmm import explain_acceleration, find_qemu, tsc_khz

ROUNDS = 7
IMAGE = Path(os.environ.get("AVF_IMAGE_DIR", "build/image"))
APK = Path("build/payload/sample.apk")
PARAMS = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests mitigations=off"


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["AVF_RUNTIME_DIR"] = str(folder)
        service = stack.enter_context(connect())
        config = prepare_app(service, folder)
        initrd = folder / "initrd"
        initrd.write_bytes(_busybox_initrd())
        cold, bare = _in_turn(lambda: _cold_start(service, config), lambda: _bare_qemu(initrd))
        start, python = _in_turn(_virtmgr_start, _python_start)
        return {
            "vm.cold_start_s": median(cold),
            "vm.bare_qemu_s": median(bare),
            "vm.cold_start.vs_bare": median(c / b for c, b in zip(cold, bare, strict=True)),
            "virtmgr.start_s": median(start),
            "virtmgr.start.vs_python": median(s / p for s, p in zip(start, python, strict=True)),
            "virtmgr.rss_mib": _resident_mib(service.pid),
        }


def _in_turn(
    one: Callable[[], float], other: Callable[[], float]
) -> tuple[list[float], list[float]]:
    one(), other()
    pairs = [(one(), other()) for _ in range(ROUNDS)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def prepare_app(service: VirtualizationService, folder: Path) -> AppConfig:
    idsig, instance = folder / "idsig", folder / "instance"
    for path in (idsig, instance):
        path.touch()
    service.create_or_update_idsig_file(APK, idsig)
    service.initialize_writable_partition(instance, 10 << 20, PartitionType.ANDROID_VM_INSTANCE)
    return AppConfig(
        apk=APK, idsig=idsig, instance_image=instance, payload_binary_name="libhello.so"
    )


def _cold_start(service: VirtualizationService, config: AppConfig) -> float:
    begin = time.perf_counter()
    with service.create_vm(config) as vm:
        vm.start()
        for event in vm.events():
            if event == PayloadStarted():
                return time.perf_counter() - begin
    raise RuntimeError("the payload has not started")


def _busybox_initrd() -> bytes:
    archive = Cpio()
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    archive.character_device("dev/console", 5, 1)
    archive.file("init", b"#!/bin/busybox sh\necho READY\n/bin/busybox poweroff -f\n", 0o755)
    return archive.to_bytes()


def _bare_qemu(initrd: Path) -> float:
    qemu = find_qemu()
    found = explain_acceleration(qemu)
    accelerator = found.accelerator.value
    params = PARAMS if accelerator == "kvm" else f"{PARAMS} tsc_early_khz={tsc_khz()}"
    cpu = found.processor or "qemu64,+rdrand"
    command = [
        *(qemu, "-accel", accelerator, "-cpu", cpu, "-m", "256"),
        *("-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(IMAGE / "vmlinux"), "-initrd", str(initrd), "-append", params),
    ]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"READY" in line:
                elapsed = time.perf_counter() - begin
                process.stdout.read()
                return elapsed
    raise RuntimeError("bare QEMU has not booted")


def _virtmgr_start() -> float:
    """From spawn to the byte that says ready; it leaves when its bootstrap socket closes."""
    ready_read, ready_write = os.pipe()
    bootstrap, served = socket.socketpair()
    descriptors = (served.fileno(), ready_write)
    command = [
        *(sys.executable, "-P", "-m", "avf.virtmgr"),
        *(f"--rpc-server-fd={descriptors[0]}", f"--ready-fd={descriptors[1]}"),
    ]
    with open(ready_read, "rb", buffering=0) as ready, bootstrap:
        begin = time.perf_counter()
        process = subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.DEVNULL)
        served.close()
        os.close(ready_write)
        ready.read(1)
        elapsed = time.perf_counter() - begin
    process.wait()
    return elapsed


def _python_start() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begin


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
