"""Runs the sample payload `echo.py` in a VM and talks to it over vsock.

python examples/build_payload.py build/payload/sample.apk
python examples/vsock_echo.py build/payload/sample.apk "Look not into the abyss"
"""

import sys
import tempfile
from pathlib import Path

from avf.client import AppConfig, DebugLevel, PartitionType, VirtualizationService, connect

PORT = 5678
INSTANCE_SIZE = 10 << 20


def prepare(service: VirtualizationService, apk: Path, folder: Path) -> AppConfig:
    """The configuration of a VM that runs echo.py; its files are made in `folder`."""
    idsig, instance = folder / "apk.idsig", folder / "instance.img"
    for file in (idsig, instance):
        file.touch()
    service.create_or_update_idsig_file(apk, idsig)
    kind = PartitionType.ANDROID_VM_INSTANCE
    service.initialize_writable_partition(instance, INSTANCE_SIZE, kind)
    return AppConfig(
        name="echo",
        apk=apk,
        idsig=idsig,
        instance_image=instance,
        payload_binary_name="echo.py",
        debug_level=DebugLevel.FULL,
    )


def main(apk: Path, line: str) -> None:
    with tempfile.TemporaryDirectory() as folder, connect() as service:
        config = prepare(service, apk, Path(folder))
        with service.create_vm(config, log=2, on_event=print) as vm:
            vm.start()
            vm.wait_until_ready(timeout=120)
            with vm.connect_vsock(PORT) as stream, stream.makefile("rw") as lines:
                lines.write(f"{line}\n")
                lines.flush()
                print(lines.readline(), end="")
            vm.wait_for_death(timeout=60)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
