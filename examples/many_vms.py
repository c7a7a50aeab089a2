"""Runs several VMs at once and talks to all of them, in one thread of asyncio.

python examples/build_payload.py build/payload/sample.apk
python examples/many_vms.py build/payload/sample.apk 3
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from avf.client import AppConfig, PartitionType
from avf.client.aio import VirtualizationService, connect

PORT = 5678
INSTANCE_SIZE = 10 << 20


async def talk(service: VirtualizationService, config: AppConfig, number: int) -> str:
    """What one VM answers."""
    async with await service.create_vm(config) as vm:
        await vm.start()
        await vm.wait_until_ready(timeout=300)
        reader, writer = await vm.open_vsock(PORT)
        writer.write(b"this is number %d\n" % number)
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return f"CID {vm.cid}: {answer.decode().strip()}"


async def main(apk: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        idsig = Path(folder, "apk.idsig")
        idsig.touch()
        async with connect() as service, asyncio.TaskGroup() as group:
            await service.create_or_update_idsig_file(apk, idsig)
            tasks = []
            for number in range(count):
                instance = Path(folder, f"instance-{number}.img")
                instance.touch()
                kind = PartitionType.ANDROID_VM_INSTANCE
                await service.initialize_writable_partition(instance, INSTANCE_SIZE, kind)
                config = AppConfig(
                    name=f"echo-{number}",
                    apk=apk,
                    idsig=idsig,
                    instance_image=instance,
                    payload_binary_name="echo.py",
                )
                tasks.append(group.create_task(talk(service, config, number)))
            for task in asyncio.as_completed(tasks):
                print(await task)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
