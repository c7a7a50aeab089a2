"""vsock ports, as AIDL carries them."""


def aidl_port(port: int) -> int:
    """An unsigned 32-bit port as a signed one. Raises ValueError."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 1 << 32:
        raise ValueError(f"port must be a whole number from 0 to {(1 << 32) - 1}, not {port!r}")
    return port - (1 << 32) if port >= 1 << 31 else port
