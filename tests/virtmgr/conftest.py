"""A real virtmgr, spoken to over its bootstrap socket with the bare contract."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    IVirtualMachine,
    VirtualMachineConfig,
    VirtualMachineRawConfig,
)
from avf.binder import FdMode, ParcelFileDescriptor, Session, bootstrap
from avf.binder import connect as binder_connect
from avf.client.process import VirtmgrProcess


@pytest.fixture
def virtmgr(runtime_dir: Path, image_dir: Path) -> Iterator[VirtmgrProcess]:
    process = VirtmgrProcess(None, forward_log=False, timeout=30)
    yield process
    process.close()


def session_with(virtmgr: VirtmgrProcess) -> Session:
    return binder_connect(
        bootstrap(virtmgr.bootstrap), fd_mode=FdMode.UNIX, incoming_threads=2, timeout=30
    )


@pytest.fixture
def root(virtmgr: VirtmgrProcess) -> Iterator[IVirtualizationService]:
    with session_with(virtmgr) as session:
        yield session.get_root(IVirtualizationService)


@contextlib.contextmanager
def connected() -> Iterator[IVirtualizationService]:
    """The root of a virtmgr that gets the environment as it is now."""
    process = VirtmgrProcess(None, forward_log=False, timeout=30)
    with contextlib.closing(process), session_with(process) as session:
        yield session.get_root(IVirtualizationService)


def opened(path: Path, mode: str = "rb") -> ParcelFileDescriptor:
    with path.open(mode) as file:
        return ParcelFileDescriptor(os.dup(file.fileno()))


def raw(folder: Path, **changes: object) -> VirtualMachineConfig:
    """A raw configuration with a kernel that is only a file; what does not start needs no better one."""
    kernel = folder / "kernel"
    kernel.touch()
    fields: dict[str, object] = {
        "name": "raw",
        "kernel": opened(kernel),
        "platform_version": "~1.0",
    }
    return VirtualMachineConfig(raw_config=VirtualMachineRawConfig(**(fields | changes)))  # type: ignore[arg-type]


def create(root: IVirtualizationService, config: VirtualMachineConfig) -> IVirtualMachine:
    return root.create_vm(config, None, None)
