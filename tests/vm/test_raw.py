"""Raw VMs: upstream's TestVsock, through the command line, on each kind of bus driver a guest may have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.binder import ExceptionCode, RemoteException
from avf.client import RawConfig, VirtualizationService
from avf.image import Cpio, default_cache, fetch_kernel, module_closure, read_module
from avf.vsock import listen_host

PORT = 45678

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def raw_guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration file of a VM that sends `HelloWorld` to the host's port 45678."""
    folder = tmp_path_factory.mktemp("raw")
    init = folder / "init"
    source = Path(__file__).with_name("sender.c")
    subprocess.run(["gcc", "-static", "-O1", "-o", init, source], check=True)
    kernel = fetch_kernel(default_cache())
    archive = Cpio()
    archive.file("init", init.read_bytes(), 0o755)
    archive.character_device("dev/console", 5, 1)
    modules = module_closure(kernel, ["virtio_pci", "vmw_vsock_virtio_transport"])
    for number, path in enumerate(modules):
        archive.file(f"modules/{number:02}", read_module(path))
    (folder / "initrd").write_bytes(archive.to_bytes())
    config = {
        "kernel": str(kernel.vmlinux),
        "initrd": "initrd",
        "params": "console=ttyS0 panic=-1 quiet",
        "memory_mib": 128,
        "platform_version": "~1.0",
    }
    path = folder / "vm.json"
    path.write_text(json.dumps(config))
    return path


def test_the_host_gets_what_the_guest_sends(raw_guest: Path, runtime_dir: Path) -> None:
    folder = runtime_dir / "vsock"
    folder.mkdir(mode=0o700, exist_ok=True)
    with listen_host(PORT, folder) as listener:
        listener.settimeout(120)
        command = [sys.executable, "-m", "avf.cli", "run", str(raw_guest)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ
        ) as vm:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                received = connection.makefile("rb").read()
            output, _ = vm.communicate(timeout=60)
    assert received == b"HelloWorld"
    assert vm.returncode == 0
    assert f'Created VM from "{raw_guest}" with CID 2048, state is STARTING.' in output.decode()
    assert output.decode().rstrip().endswith("VM ended: Shutdown")


def test_an_incompatible_platform_version(raw_guest: Path, service: VirtualizationService) -> None:
    config = RawConfig(kernel=json.loads(raw_guest.read_text())["kernel"], platform_version="~2.0")
    with pytest.raises(RemoteException) as raised:
        service.create_vm(config)
    assert raised.value.code is ExceptionCode.SERVICE_SPECIFIC
    assert raised.value.service_specific == -1
    assert raised.value.message == (
        "Failed to create VM: Incompatible platform version. The config is compatible with"
        " platform version(s) ~2.0, but the actual platform version is 1.0.0"
    )
