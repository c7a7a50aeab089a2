"""vsock addresses: who is who, and which numbers are allowed."""

HYPERVISOR_CID = 0
LOCAL_CID = 1
HOST_CID = 2
"""The host's address, as guests see it."""
GUEST_CID_MIN = 2048
"""The lowest address that a guest of AVF gets."""
GUEST_CID_MAX = 65535
"""The highest address that a guest of AVF gets."""

PORT_MAX = 0xFFFF_FFFE
"""The highest port; 0xFFFFFFFF means "any port" to the kernel."""


class AddressError(ValueError):
    """A number that is no vsock address of the wanted kind."""


def check_port(port: int) -> int:
    """Returns `port` if it is an unsigned 32-bit number and not the wildcard. Raises AddressError."""
    if not 0 <= port <= PORT_MAX:
        raise AddressError(f"vsock port {port} is not between 0 and {PORT_MAX}")
    return port


def check_guest_cid(cid: int) -> int:
    """Returns `cid` if a guest may have it: not one of the reserved ones, nor the wildcard. Raises AddressError."""
    if not HOST_CID < cid < 0xFFFF_FFFF:
        raise AddressError(f"{cid} cannot be the CID of a guest")
    return cid


def port_from_aidl(port: int) -> int:
    """AIDL carries ports as signed 32-bit integers; returns the unsigned port. Raises AddressError."""
    if not -0x8000_0000 <= port <= 0x7FFF_FFFF:
        raise AddressError(f"{port} is not a 32-bit integer")
    return check_port(port & 0xFFFF_FFFF)
