"""vsock between the host and its guests: by the kernel, or in user space over unix sockets."""

from avf.vsock.address import (
    GUEST_CID_MAX,
    GUEST_CID_MIN,
    HOST_CID,
    AddressError,
    check_guest_cid,
    check_port,
    port_from_aidl,
)
from avf.vsock.device_host import DeviceHost
from avf.vsock.host import HostVsock
from avf.vsock.hybrid import HybridVsock, listen_host
from avf.vsock.kernel import KernelVsock, kernel_vhost_available
from avf.vsock.naming import expect_reset, guest_address, name_guest
from avf.vsock.spawn import confined_device_command, device_box, device_command

__all__ = [
    "GUEST_CID_MAX",
    "GUEST_CID_MIN",
    "HOST_CID",
    "AddressError",
    "DeviceHost",
    "HostVsock",
    "HybridVsock",
    "KernelVsock",
    "check_guest_cid",
    "check_port",
    "confined_device_command",
    "device_box",
    "device_command",
    "expect_reset",
    "guest_address",
    "kernel_vhost_available",
    "listen_host",
    "name_guest",
    "port_from_aidl",
]
