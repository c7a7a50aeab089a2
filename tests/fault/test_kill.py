"""SIGKILL to each process of a running VM: no orphan, no file, the client learns it and why."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.client import DeathReason, ServiceDied, VirtualizationService
from tests.eventually import eventually
from tests.fault.processes import all_end, kill, the_one
from tests.vm.conftest import App

pytestmark = pytest.mark.vm

QEMU, DEVICE, VIRTMGR, DAEMON = (
    "qemu-system",
    "avf/vsock/device",
    "avf.virtmgr",
    "avf.virtualizationservice",
)

CLIENT = """
import sys
from avf.client import AppConfig, connect
apk, idsig, instance = sys.argv[1:]
service = connect()
vm = service.create_vm(
    AppConfig(apk=apk, idsig=idsig, instance_image=instance, payload_binary_name="echo.py"))
vm.start()
vm.wait_until_ready(300)
print("ready", flush=True)
vm.wait_for_death()
"""


def test_the_client_is_killed(app: App, runtime_dir: Path) -> None:
    config = app.config
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, config.apk, config.idsig, config.instance_image],
        stdout=subprocess.PIPE,
    )
    with client, contextlib.ExitStack() as undo:
        undo.callback(client.kill)
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        with all_end(runtime_dir, QEMU, DEVICE):
            client.kill()
    eventually(app.service.debug_list_vms, [])
    eventually(lambda: list((runtime_dir / "vms").iterdir()), [])


def test_qemu_is_killed(app: App, runtime_dir: Path) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE):
            kill(the_one(runtime_dir, QEMU))
            assert vm.wait_for_death(60) is DeathReason.KILLED


def test_the_vsock_device_is_killed(app: App, runtime_dir: Path) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        vm.wait_until_ready(300)
        with all_end(runtime_dir, QEMU, DEVICE):
            kill(the_one(runtime_dir, DEVICE))
            assert vm.wait_for_death(60) is DeathReason.INFRASTRUCTURE_ERROR


def test_virtmgr_is_killed(app: App, runtime_dir: Path, service: VirtualizationService) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE, VIRTMGR):
            kill(service.pid)
            assert vm.wait_for_death(60) is DeathReason.VIRTUALIZATION_SERVICE_DIED
        with pytest.raises(ServiceDied, match="SIGKILL"):
            vm.start()


def test_the_daemon_is_killed(app: App, runtime_dir: Path) -> None:
    """Its VMs go on, and the next daemon neither gives their CIDs away nor removes their files."""
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        with all_end(runtime_dir, DAEMON):
            kill(the_one(runtime_dir, DAEMON))
        vm.wait_until_ready(300)
        with app.service.create_vm(app.config) as other:
            assert other.cid != vm.cid
            listed = {info.cid: info.requester_uid for info in app.service.debug_list_vms()}
            assert listed == {vm.cid: os.getuid(), other.cid: os.getuid()}
        assert Path(runtime_dir, "vms", str(vm.cid)).exists()
    eventually(app.service.debug_list_vms, [])


def test_everything_ends_with_the_last_client(app: App, runtime_dir: Path) -> None:
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        with all_end(runtime_dir, QEMU, DEVICE, VIRTMGR, DAEMON, seconds=30):
            app.service.close()
        assert vm.wait_for_death(0) is not None
