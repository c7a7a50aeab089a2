#!/usr/bin/python3
"""A payload that serves an interface of its own over RPC Binder on vsock port 5679."""

import os

from interfaces import IGreeter

import avf_payload


class Greeter(IGreeter):
    def greet(self, name: str) -> str:
        return f"Hello {name}, this is {os.uname().nodename or 'a guest'} with Linux {os.uname().release}!"

    def quit(self) -> None:
        os._exit(0)


avf_payload.run_vsock_rpc_server(Greeter(), 5679, avf_payload.notify_payload_ready)
