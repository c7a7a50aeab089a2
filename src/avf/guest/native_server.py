"""Serves the binder object of a native payload: RPC Binder here, the methods in the payload's own function.

The structures are those of vm_payload.c and avf_rpc.h.
"""

import contextlib
import ctypes
import threading

from avf.binder import RawService, StatusError
from avf.guest import payload_client


class Writer(ctypes.Structure):
    """struct AvfWriter."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("status", ctypes.c_int32),
        ("grow", ctypes.c_void_p),
    )
    data: int | None
    size: int


Serve = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(Writer),
)
Release = ctypes.CFUNCTYPE(None, ctypes.POINTER(Writer))
OnReady = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class NativeServer(ctypes.Structure):
    """struct avf_server."""

    _fields_ = (
        ("descriptor", ctypes.c_char_p),
        ("concurrent", ctypes.c_uint32),
        ("port", ctypes.c_uint32),
        ("service", ctypes.c_void_p),
        ("serve", Serve),
        ("release", Release),
        ("on_ready", OnReady),
        ("param", ctypes.c_void_p),
    )


def run_server(server: NativeServer) -> None:
    """Does not return while the server serves. Raises OSError or ValueError if it cannot."""
    root = _service(server, server.descriptor.decode())
    payload_client.run_vsock_rpc_server(root, server.port, lambda: _tell_ready(server))


def _tell_ready(server: NativeServer) -> None:
    if server.on_ready:
        server.on_ready(server.param)


def _service(server: NativeServer, descriptor: str) -> RawService:
    service, serve, release = server.service, server.serve, server.release
    one_at_a_time = contextlib.nullcontext() if server.concurrent else threading.Lock()

    class Native(RawService, descriptor=descriptor):
        def transact(self, code: int, arguments: bytes) -> bytes:
            reply = Writer()
            try:
                with one_at_a_time:
                    status = serve(service, code, arguments, len(arguments), ctypes.byref(reply))
                if status:
                    raise StatusError(status)
                return ctypes.string_at(reply.data, reply.size) if reply.data else b""
            finally:
                release(ctypes.byref(reply))

    return Native()
