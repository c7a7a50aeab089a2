"""The control plane: how fast virtualizationservice gives out what a VM needs of its host (CID, directory, handle).

service.allocate_per_s      allocated and given back again, one after the other
service.allocate.p50_ms     one of these with 1,000 others alive, median
service.allocate.p99_ms     likewise, the 99th percentile
service.allocate.vs_idle    with 1,000 alive, ratio to none alive, of the medians
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import FdMode, connect, release, unix
from bench._programs import own_service

SOCKET = "virtualizationservice.sock"
CALLS = 500
LIVE = 1000


def run() -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(own_service(folder))
        address = unix(str(folder / SOCKET))
        session = stack.enter_context(connect(address, fd_mode=FdMode.NONE, timeout=30))
        service = session.get_root(IVirtualizationServiceInternal)
        alone = [_allocate(service) for _ in range(CALLS)]
        live = [service.allocate_global_vm_context(os.getpid()) for _ in range(LIVE)]
        crowded = [_allocate(service) for _ in range(CALLS)]
        for context in live:
            release(context)
        return {
            "service.allocate_per_s": CALLS / sum(alone),
            "service.allocate.p50_ms": 1000 * median(crowded),
            "service.allocate.p99_ms": 1000 * quantiles(crowded, n=100)[-1],
            "service.allocate.vs_idle": median(crowded) / median(alone),
        }


def _allocate(service: IVirtualizationServiceInternal) -> float:
    begin = time.perf_counter()
    release(service.allocate_global_vm_context(os.getpid()))
    return time.perf_counter() - begin
