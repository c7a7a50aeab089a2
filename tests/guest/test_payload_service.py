"""The service payloads talk to, over its real socket and through the module payloads in Python use."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.aidl.vm_payload import IVmPayloadService
from avf.binder import ExceptionCode, RemoteException, connect, unix
from avf.guest import agent, payload_client
from avf.guest.cbor import decode
from avf.guest.errors import InvalidConfig
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.payload_service import PayloadService, serve
from avf.guest.secrets import agent_cdi, payload_inputs, payload_layer
from tests.guest.machine import RecordingService

IDENTITY = PayloadIdentity(bytes(64), ApkData(bytes(32), b"key"), ())


@contextmanager
def served(
    folder: Path, host: RecordingService, *, restricted_allowed: bool = False
) -> Iterator[str]:
    layer = payload_layer(agent_cdi(False), payload_inputs(IDENTITY, False, None, "x.so"))
    service = PayloadService(host, layer, restricted_allowed)
    socket = serve(service, str(folder), group=os.getgid())
    try:
        yield socket.path
    finally:
        socket.server.shutdown()


@pytest.fixture
def host() -> RecordingService:
    return RecordingService()


def test_only_the_payloads_group_may_connect(tmp_path: Path, host: RecordingService) -> None:
    with served(tmp_path, host) as path:
        status = Path(path).stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert status.st_gid == os.getgid()


def test_secrets(tmp_path: Path, host: RecordingService) -> None:
    with served(tmp_path, host) as path, connect(unix(path)) as session:
        service = session.get_root(IVmPayloadService)
        assert service.get_vm_instance_secret(b"a", 32) != service.get_vm_instance_secret(b"b", 32)
        assert service.get_vm_code_secret(b"a", 32) != service.get_vm_instance_secret(b"a", 32)
        assert service.get_vm_code_secret(b"a", 32) == service.get_vm_code_secret(b"a", 32)
        for secret in (service.get_vm_instance_secret, service.get_vm_code_secret):
            assert secret(b"a", 0) == b""
            for size in (-1, 33):
                with pytest.raises(RemoteException) as caught:
                    secret(b"a", size)
                assert caught.value.code is ExceptionCode.ILLEGAL_ARGUMENT


def test_dice_values_are_restricted(tmp_path: Path, host: RecordingService) -> None:
    with served(tmp_path, host) as path, connect(unix(path)) as session:
        service = session.get_root(IVmPayloadService)
        for call in (service.get_dice_attestation_chain, service.get_dice_attestation_cdi):
            with pytest.raises(RemoteException, match="Use of restricted APIs") as caught:
                call()
            assert caught.value.code is ExceptionCode.SECURITY


def test_dice_values(tmp_path: Path, host: RecordingService) -> None:
    with served(tmp_path, host, restricted_allowed=True) as path, connect(unix(path)) as session:
        service = session.get_root(IVmPayloadService)
        assert len(decode(service.get_dice_attestation_chain())) == 2
        assert len(service.get_dice_attestation_cdi()) == 32


def test_what_payloads_in_python_import(
    tmp_path: Path, host: RecordingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, host) as path:
        monkeypatch.setattr(payload_client, "SOCKET_PATH", path)
        monkeypatch.setattr(payload_client, "_ready_was_told", False)
        payload_client.notify_payload_ready()
        payload_client.notify_payload_ready()
        assert host.heard == [("ready",)]
        assert len(payload_client.get_vm_instance_secret(b"a")) == 32
        assert len(payload_client.get_vm_code_secret(b"a")) == 32
        assert payload_client.get_apk_contents_path() == "/mnt/apk"
        assert payload_client.get_encrypted_storage_path() is None


@pytest.mark.parametrize(
    "path", ["/mnt/apk/../etc/passwd", "/etc/passwd", "", "assets/config.json"]
)
def test_a_configuration_outside_of_the_apk(path: str) -> None:
    with pytest.raises(InvalidConfig, match="is not inside the APK"):
        agent._read_config(path)
