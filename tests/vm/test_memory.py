"""Memory taken from a running guest, as the guest sees it."""

from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.binder import RemoteException
from avf.client import MemoryTrimLevel, VirtualizationService
from tests.eventually import eventually
from tests.vm.conftest import prepare_app

pytestmark = pytest.mark.vm

PAYLOAD = b"""#!/usr/bin/python3
import socket
import avf_payload
with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 5678))
    listener.listen()
    avf_payload.notify_payload_ready()
    with listener.accept()[0].makefile("rwb") as lines:
        for _ in lines:
            with open("/proc/meminfo") as meminfo:
                available = dict(line.split()[:2] for line in meminfo)["MemAvailable:"]
            lines.write(available.encode() + b"\\n")
            lines.flush()
"""


def test_trimming(service: VirtualizationService, tmp_path: Path) -> None:
    apk = tmp_path / "app.apk"
    with apk.open("w+b") as file:
        ApkBuilder().add("bin/memory.py", PAYLOAD, mode=0o755).build(file, SigningKey.generate())
    app = prepare_app(service, tmp_path, apk)
    with service.create_vm(app.running("memory.py")) as vm:
        with pytest.raises(RemoteException, match="VM is not running"):
            vm.trim_memory(MemoryTrimLevel.TRIM_MEMORY_RUNNING_LOW)
        vm.start()
        vm.wait_until_ready(300)
        with pytest.raises(RemoteException, match="Invalid memory trim level 9"):
            vm.trim_memory(MemoryTrimLevel(9))
        with vm.connect_vsock(5678) as stream, stream.makefile("rwb") as lines:

            def available_mib() -> int:
                lines.write(b"\n")
                lines.flush()
                return int(lines.readline()) // 1024

            before = available_mib()
            vm.trim_memory(MemoryTrimLevel.TRIM_MEMORY_RUNNING_CRITICAL)
            eventually(lambda: available_mib() < before - 60, True, seconds=60)
