import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from avf.client import (
    DeathReason,
    Died,
    Finished,
    PartitionType,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    RawConfig,
    ServiceDied,
    TimedOut,
    VirtualMachineState,
    VmClosed,
    VmDied,
)
from avf.client.aio import VirtualizationService, connect
from tests.client.fake_virtmgr import IGreeter

FAKE = [sys.executable, "-m", "tests.client.fake_virtmgr"]
SOON = 20
R = TypeVar("R")


def play(script: str) -> RawConfig:
    return RawConfig(name=script, kernel="/dev/null")


def with_service(test: Callable[[VirtualizationService], Awaitable[R]]) -> R:
    """Runs `test` in an event loop with a service; nothing of it may be left afterwards."""

    async def main() -> R:
        async with connect(command=FAKE) as service:
            return await test(service)

    gc.collect()  # what other tests have left must not go in between
    before = set(Path("/proc/self/fd").iterdir())
    threads = threading.active_count()
    result = asyncio.run(main())
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert threading.active_count() <= threads  # some that others left may end
    return result


def test_a_fork_is_a_vm_with_a_life_of_its_own() -> None:
    async def test(service: VirtualizationService) -> None:
        async with await service.create_vm(play("report")) as vm:
            await vm.start()
            async with await vm.fork("started,died:3") as clone:
                await clone.start()
                assert await clone.wait_for_death(SOON) == DeathReason.SHUTDOWN
            assert vm.death_reason is None

    with_service(test)


def test_a_whole_life() -> None:
    async def test(service: VirtualizationService) -> None:
        async with await service.create_vm(play("started,ready,finished:7,died:3")) as vm:
            assert await vm.state() == VirtualMachineState.NOT_STARTED
            await vm.start()
            events = [event async for event in vm.events()]
            assert events == [
                PayloadStarted(),
                PayloadReady(),
                PayloadFinished(7),
                VmDied(DeathReason.SHUTDOWN),
            ]
            assert await vm.wait_for_death() == vm.death_reason == DeathReason.SHUTDOWN

    with_service(test)


@pytest.mark.parametrize(("script", "error"), [("finished:0", Finished), ("died:6", Died)])
def test_not_ready(script: str, error: type[Exception]) -> None:
    async def test(service: VirtualizationService) -> None:
        async with await service.create_vm(play(script)) as vm:
            await vm.start()
            with pytest.raises(error):
                await vm.wait_until_ready(SOON)

    with_service(test)


def test_waiting_ends_at_the_deadline() -> None:
    async def test(service: VirtualizationService) -> None:
        async with await service.create_vm(play("started")) as vm:
            await vm.start()
            with pytest.raises(TimedOut):
                await vm.wait_until_ready(0)
            assert await vm.wait_for_death(0) is None

    with_service(test)


def test_many_vms_are_waited_for_in_one_thread() -> None:
    async def test(service: VirtualizationService) -> None:
        vms = [await service.create_vm(play("started,ready")) for _ in range(20)]
        waits = [asyncio.create_task(vm.wait_until_ready(SOON)) for vm in vms]
        for vm in vms:
            await vm.start()
        await asyncio.gather(*waits)
        for vm in vms:
            await vm.close()

    with_service(test)


def test_the_death_of_virtmgr() -> None:
    async def test(service: VirtualizationService) -> None:
        async with await service.create_vm(play("started")) as vm:
            await vm.start()
            os.kill(service.pid, signal.SIGKILL)
            assert await vm.wait_for_death(SOON) == DeathReason.VIRTUALIZATION_SERVICE_DIED
            with pytest.raises(ServiceDied):
                await vm.start()

    with_service(test)


def test_closing_frees_whoever_waits() -> None:
    async def test(service: VirtualizationService) -> None:
        vm = await service.create_vm(play(""))
        waiting = asyncio.create_task(vm.wait_for_death(SOON))
        await vm.close()
        assert await waiting == DeathReason.KILLED
        with pytest.raises(VmClosed):
            await vm.start()

    with_service(test)


def test_streams_to_the_guest() -> None:
    async def test(service: VirtualizationService) -> bytes:
        async with await service.create_vm(play("")) as vm:
            await vm.start()
            reader, writer = await vm.open_vsock(0x80000001)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            with await vm.connect_vsock(0x80000001) as stream:
                assert not stream.getblocking()
            return answer

    assert with_service(test) == b"you have reached a negative port"


def test_a_service_in_the_guest() -> None:
    async def test(service: VirtualizationService) -> str:
        async with await service.create_vm(play("")) as vm:
            await vm.start()
            with await vm.connect_service(5678, IGreeter) as greeter:
                return greeter.greet("you")

    assert with_service(test) == "hello, you"


def test_files_are_prepared(tmp_path: Path) -> None:
    image, apk, idsig = tmp_path / "image", tmp_path / "apk", tmp_path / "idsig"
    for path in (image, apk, idsig):
        path.write_text("x")

    async def test(service: VirtualizationService) -> None:
        kind = PartitionType.ANDROID_VM_INSTANCE
        await service.initialize_writable_partition(image, 4096, kind)
        await service.create_or_update_idsig_file(apk, idsig)
        assert await service.debug_list_vms() == []

    with_service(test)
    assert image.read_bytes().startswith(b"ANDROID_VM_INSTANCE")
    assert idsig.read_text() == "idsig of x"


def test_a_cancelled_creation_leaves_no_vm() -> None:
    async def test(service: VirtualizationService) -> None:
        creation = asyncio.create_task(service.create_vm(play("")))
        await asyncio.sleep(0)
        creation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creation
        async with asyncio.timeout(SOON):
            vm = await service.create_vm(play(""))
            while [info.cid for info in await service.debug_list_vms()] != [vm.cid]:
                pass
            await vm.close()

    with_service(test)
