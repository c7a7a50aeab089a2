"""The same call over D-Bus: dbus-fast at both ends of a private bus, whose daemon every message passes."""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

_NAME = "avf.bench"
_PATH = "/avf/bench"


@contextmanager
def bus(socket_path: str) -> Iterator[str]:
    """The address of a bus of our own."""
    address = f"unix:path={socket_path}"
    command = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address={address}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


def serve(address: str) -> None:
    async def main() -> None:
        connected = await MessageBus(bus_address=address).connect()

        def answer(message: Message) -> Message | bool:
            if message.member != "AddInts":
                return False
            return Message.new_method_return(message, "i", [sum(message.body)])

        connected.add_message_handler(answer)
        await connected.request_name(_NAME)
        print("ready", flush=True)
        await asyncio.Event().wait()  # until it is terminated

    asyncio.run(main())


def median_us(address: str, count: int) -> float:
    async def main() -> list[int]:
        connected = await MessageBus(bus_address=address).connect()
        times = []
        for _ in range(count + count // 10):
            start = time.perf_counter_ns()
            message = Message(
                destination=_NAME,
                path=_PATH,
                interface=_NAME,
                member="AddInts",
                signature="ii",
                body=[1, 2],
            )
            answer = await connected.call(message)
            times.append(time.perf_counter_ns() - start)
            assert answer is not None
            assert answer.message_type == MessageType.METHOD_RETURN
            assert answer.body == [3]
        connected.disconnect()
        return times

    return statistics.median(asyncio.run(main())[count // 10 :]) / 1000
