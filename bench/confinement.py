"""What the sandboxes of a VM add to its start: those of QEMU and of its vsock device, around programs that end at once.

vm.confinement_ms          both started at once until both have ended, less the same without sandboxes, median
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from avf.confine import Box, Filter, Limits, existing, explain_confinement, needs_of, spawn
from avf.vmm import find_qemu
from avf.vsock import device_box

ROUNDS = 25
PROGRAM = "/bin/true"
UID = 0x7000_0000 + 2048


def run() -> dict[str, float]:
    print(f"confinement: {explain_confinement()}")
    qemu = Box(
        Filter.MONITOR,
        Limits(256, 1 << 30),
        tuple(existing([*needs_of(find_qemu()), *needs_of(PROGRAM), Path("/usr/share/qemu")])),
        devices=(Path("/dev/null"),),
        uid=UID,
    )
    device = device_box(UID)
    device = replace(device, readable=tuple(existing([*device.readable, *needs_of(PROGRAM)])))
    _start_both(qemu, device)
    pairs = [(_start_both(qemu, device), _start_both(None, None)) for _ in range(ROUNDS)]
    return {"vm.confinement_ms": 1000 * median(within - without for within, without in pairs)}


def _start_both(*boxes: Box | None) -> float:
    begin = time.perf_counter()
    children = [spawn([PROGRAM], fds=[], stderr=2, box=box) for box in boxes]
    statuses = [child.reap() for child in children]
    elapsed = time.perf_counter() - begin
    if any(statuses):
        raise RuntimeError(f"{PROGRAM} ended with {statuses}")
    return elapsed
