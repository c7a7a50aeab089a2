"""What `vm doctor` tries last: all that `vm run-app` does, with a payload that only says that it is ready."""

import os
import tempfile
import time
from pathlib import Path

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import BinderError, FdMode, ParcelFileDescriptor, unix
from avf.binder import connect as connect_binder
from avf.cli.empty_payload import EMPTY_PAYLOAD_NAME, find_or_build
from avf.client import AppConfig, PartitionType, connect
from avf.policy import Permission
from avf.runtime import service_sockets

NAME = "doctor"
_SECONDS = 330.0
"""For a guest to start its payload, which virtmgr gives less time, and for the payload to say a word."""
_SIZE = 4096
_ANSWER_SECONDS = 10.0


def granted() -> dict[Permission, bool]:
    """What the service that runs already grants to this user; nothing if none runs that tells."""
    for path in service_sockets():
        try:
            with connect_binder(
                unix(path), fd_mode=FdMode.NONE, timeout=_ANSWER_SECONDS
            ) as session:
                root = session.get_root(IVirtualizationServiceInternal)
                return {item: root.is_granted(item.value) for item in Permission}
        except (OSError, BinderError):
            continue
    return {}


def try_service() -> None:
    """Asks virtmgr for something that every user of it needs. Raises ClientError, BinderError or OSError."""
    with connect() as service:
        fd = os.memfd_create("doctor", os.MFD_CLOEXEC)
        with ParcelFileDescriptor(fd) as partition:
            service.initialize_writable_partition(partition, _SIZE, PartitionType.RAW)


def run_payload() -> float:
    """Runs a VM until its payload is ready; how many seconds that took.

    Raises ClientError, BinderError or OSError.
    """
    with tempfile.TemporaryDirectory(prefix="avf-doctor-") as name:
        folder = Path(name)
        apk = find_or_build(folder / "payload.apk", None)
        idsig, instance = folder / "apk.idsig", folder / "instance.img"
        for path in (idsig, instance):
            path.touch()
        config = AppConfig(
            name=NAME,
            apk=apk,
            idsig=idsig,
            instance_image=instance,
            payload_binary_name=EMPTY_PAYLOAD_NAME,
        )
        with connect() as service:
            service.create_or_update_idsig_file(apk, idsig)
            with service.create_vm(config) as vm:
                began = time.monotonic()
                vm.start()
                vm.wait_until_ready(_SECONDS)
                return time.monotonic() - began
