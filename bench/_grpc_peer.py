"""The same call over grpcio: bytes as messages, a unix socket, no generated code."""

import asyncio
import statistics
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio

SERVICE = "avf.bench.Bench"
METHOD = f"/{SERVICE}/AddInts"
_TWO = struct.Struct("<ii")
_ONE = struct.Struct("<i")


def _add(request: bytes, context: object) -> bytes:
    a, b = _TWO.unpack(request)
    return _ONE.pack(a + b)


async def _add_async(request: bytes, context: object) -> bytes:
    return _add(request, context)


def serve(path: str) -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_add)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"AddInts": handler}),)
    )
    server.add_insecure_port(f"unix:{path}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def serve_aio(path: str) -> None:
    async def main() -> None:
        server = grpc.aio.server()
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            _add_async
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"AddInts": handler}),)
        )
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        print("ready", flush=True)
        await server.wait_for_termination()

    asyncio.run(main())


def median_us(path: str, count: int) -> float:
    """Of the sync client."""
    with grpc.insecure_channel(f"unix:{path}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        times = []
        for _ in range(count + count // 10):
            start = time.perf_counter_ns()
            answer = _ONE.unpack(call(_TWO.pack(1, 2)))
            times.append(time.perf_counter_ns() - start)
            assert answer == (3,)
    return statistics.median(times[count // 10 :]) / 1000


def median_us_aio(path: str, count: int) -> float:
    """Of the asyncio client."""

    async def main() -> list[int]:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            times = []
            for _ in range(count + count // 10):
                start = time.perf_counter_ns()
                answer = _ONE.unpack(await call(_TWO.pack(1, 2)))
                times.append(time.perf_counter_ns() - start)
                assert answer == (3,)
        return times

    return statistics.median(asyncio.run(main())[count // 10 :]) / 1000
