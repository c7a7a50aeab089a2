"""IVmPayloadService: what the agent does for payloads, on the unix socket /dev/socket/vm_payload_service."""

import os
import socket

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_payload import IVmPayloadService
from avf.binder import TOTAL_LIMITS, Budget, RemoteException, Server
from avf.guest import PAYLOAD_ID
from avf.guest.dice import certificate_chain
from avf.guest.forks import Forks
from avf.guest.report import log
from avf.guest.secrets import PayloadLayer, code_secret, payload_secret
from avf.named import NamedTuple

SOCKET_DIRECTORY = "/dev/socket"
_THREADS = 4
_FRAME_SECONDS = 120.0
_MAX_CONNECTIONS = 64
"""Each costs the agent a thread; a payload needs one per process that uses the API."""


class PayloadService(IVmPayloadService):
    """`restricted_allowed`: whether the payload may see the DICE values; only those with a configuration file may.
    `forks`: of a machine that may be copied.
    """

    def __init__(
        self,
        host: IVirtualMachineService,
        layer: PayloadLayer,
        restricted_allowed: bool,
        forks: Forks | None = None,
    ) -> None:
        self._host = host
        self._own_layer = layer
        self._restricted_allowed = restricted_allowed
        self._forks = forks

    @property
    def _layer(self) -> PayloadLayer:
        """For a secret: what has given one is not copied any more."""
        return self._own_layer if self._forks is None else self._forks.secret_layer()

    def notify_payload_ready(self) -> None:
        self._host.notify_payload_ready()

    def get_vm_instance_secret(self, identifier: bytes, size: int) -> bytes:
        try:
            return payload_secret(self._layer.cdi, identifier, size)
        except ValueError as error:
            raise RemoteException.illegal_argument(str(error)) from error

    def get_vm_code_secret(self, identifier: bytes, size: int) -> bytes:
        try:
            return code_secret(self._layer, identifier, size)
        except ValueError as error:
            raise RemoteException.illegal_argument(str(error)) from error

    def get_clone_number(self) -> int:
        return 0 if self._forks is None else self._forks.number

    def wait_until_cloned(self) -> int:
        if self._forks is None:
            raise RemoteException.unsupported_operation("this VM cannot be forked")
        return self._forks.wait_until_cloned()

    def get_dice_attestation_chain(self) -> bytes:
        self._check_restricted()
        layer = self._layer
        return certificate_chain(layer.parent, layer.cdi, layer.inputs)

    def get_dice_attestation_cdi(self) -> bytes:
        self._check_restricted()
        return self._layer.cdi.attest

    def _check_restricted(self) -> None:
        if not self._restricted_allowed:
            raise RemoteException.security("Use of restricted APIs")


class ServiceSocket(NamedTuple):
    """A server and where it listens."""

    server: Server
    path: str


def serve(
    service: PayloadService, directory: str = SOCKET_DIRECTORY, group: int = PAYLOAD_ID
) -> ServiceSocket:
    """Serves the payload's user, in threads of its own."""
    path = f"{directory}/{IVmPayloadService.VM_PAYLOAD_SERVICE_SOCKET_NAME}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o660)
    os.chown(path, -1, group)
    listener.listen()
    server = Server(
        service,
        max_threads=_THREADS,
        frame_timeout=_FRAME_SECONDS,
        budget=Budget(total=TOTAL_LIMITS._replace(connections=_MAX_CONNECTIONS)),
    )
    server.start(listener)
    log(f"serving payloads on {path}")
    return ServiceSocket(server, path)
