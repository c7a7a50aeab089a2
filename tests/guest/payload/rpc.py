"""A payload in Python that serves an interface of its own to the host."""

import avf_payload
from avf.binder import Interface, method


class IProbe(Interface, descriptor="test.IProbe"):
    @method(1)
    def secret(self, size: int) -> bytes:
        raise NotImplementedError

    @method(2, oneway=True)
    def stop(self) -> None: ...


class Probe(IProbe):
    def secret(self, size: int) -> bytes:
        return avf_payload.get_vm_instance_secret(b"name", size)

    def stop(self) -> None:
        import os

        os._exit(3)


avf_payload.run_vsock_rpc_server(Probe(), 5000, on_ready=avf_payload.notify_payload_ready)
