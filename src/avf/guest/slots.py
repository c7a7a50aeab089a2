"""The slots of a board with PCI Express, into which a host plugs disks and vsock while the guest stands still.

What a kernel does when it finds a new device, with ACPI's help, is much code, which an emulator would have to translate
in every clone. So a guest that is about to be saved takes the devices from their drivers and switches the power of
their slots off, whereupon QEMU unplugs them; the kernel is not told, and keeps all that it knows of them. Later the
guest switches the power on again, gives the device that is there then the addresses of the one before, and binds it to
its driver. Only a device of another kind, or one in a slot that was empty, is left to the kernel to find.

Sources: PCI Express Base Specification, 7.5.3 (Slot Capabilities, Control and Status Registers); PCI Local Bus
Specification 3.0, 6.1 (Configuration Space Organization).
"""

import os
import struct
import time

from avf.guest.errors import GuestError
from avf.guest.files import read_bytes, read_text, write_text

PCI = "/sys/bus/pci"
VIRTIO = "/sys/bus/virtio"

_CONFIG_SIZE = 256
_HEADER_SIZE = 64
_COMMAND, _CLASS, _CAPABILITIES = 0x04, 0x08, 0x34
_ADDRESSES = slice(0x10, 0x28)
"""The base address registers."""
_KIND = struct.Struct("<I4xI32xI4xB11x")
"""What in a device's header tells one kind from another: vendor and device; revision and class; vendor and device of
the subsystem; where its capabilities begin.
"""
_BRIDGE = b"\x00\x04\x06"
"""The class of a bridge between PCI buses."""

_PCI_EXPRESS = 0x10
_FLAGS, _SLOT_CAPABILITIES, _SLOT_CONTROL = 0x02, 0x14, 0x18
"""Of the registers in the capability of that number. The slot's status follows its control, in the same four bytes."""
_HAS_SLOT, _HAS_POWER_SWITCH = 1 << 8, 1 << 1
_POWER_IS_OFF, _INDICATOR, _INDICATOR_IS_ON, _INDICATOR_IS_OFF = 1 << 10, 3 << 8, 1 << 8, 3 << 8
_IS_PRESENT = 1 << (16 + 6)
_VSOCK, _DISK = "0x0013", "0x0002"
"""As virtio numbers devices."""
_GONE_SECONDS = 10.0
_POLL = 0.001


class Slot:
    """A slot, below its port, and what the device was that has been in it."""

    def __init__(self, port: str, registers: int) -> None:
        """`port`: the folder of the port in sysfs; `registers`: where its PCI Express capability begins."""
        self._port = port
        self._config = f"{port}/config"
        self._control = registers + _SLOT_CONTROL
        self._device = ""
        self._virtio = ""
        self._driver = ""
        self._header: bytes | None = None

    def virtio_device(self) -> str | None:
        """The folder of the virtio device in this slot, if the kernel knows one. Raises OSError."""
        for address in os.listdir(self._port):
            if os.access(f"{self._port}/{address}/config", os.F_OK):
                for name in os.listdir(f"{self._port}/{address}"):
                    if name.startswith("virtio"):
                        return f"{self._port}/{address}/{name}"
        return None

    def eject(self, virtio_device: str) -> None:
        """Takes the device from its driver, and out of the machine. Raises OSError or GuestError."""
        self._device, self._virtio = os.path.split(virtio_device)
        driver = os.path.basename(os.readlink(f"{virtio_device}/driver"))
        self._driver = f"{VIRTIO}/drivers/{driver}"
        header = read_bytes(f"{self._device}/config", _HEADER_SIZE)
        deadline = time.monotonic() + _GONE_SECONDS
        with open(self._config, "r+b", buffering=0) as config:
            fd = config.fileno()
            write_text(f"{self._driver}/unbind", self._virtio)
            self._header = header
            self._switch(fd, self._state(fd), _POWER_IS_OFF | _INDICATOR_IS_OFF)
            while self._state(fd) & _IS_PRESENT:
                if time.monotonic() > deadline:
                    raise GuestError(f"the device in {self._port} is not ejected")
                time.sleep(_POLL)

    def plug_in(self) -> bool:
        """Sets up a device that has been plugged in. False if the kernel has to find it. Raises OSError."""
        fd = os.open(self._config, os.O_RDWR | os.O_CLOEXEC)
        try:
            state = self._state(fd)
            if not state & _IS_PRESENT or not state & _POWER_IS_OFF:
                return True
            self._switch(fd, state, _INDICATOR_IS_ON)
        finally:
            os.close(fd)
        header, self._header = self._header, None
        if header is None:
            return False
        if self._take_place(header):
            return True
        write_text(f"{self._device}/remove", "1")
        return False

    def _take_place(self, header: bytes) -> bool:
        """Has the device work where the one with that header did; False if it is of another kind, or does not."""
        if not self._take_addresses(header):
            return False
        try:
            write_text(f"{self._driver}/bind", self._virtio)
        except OSError:
            return False
        return True

    def _take_addresses(self, header: bytes) -> bool:
        fd = os.open(f"{self._device}/config", os.O_RDWR | os.O_CLOEXEC)
        try:
            if _KIND.unpack_from(os.pread(fd, _HEADER_SIZE, 0)) != _KIND.unpack_from(header):
                return False
            addresses = header[_ADDRESSES]
            os.pwrite(fd, addresses, _ADDRESSES.start)
            os.pwrite(fd, header[_COMMAND : _COMMAND + 2], _COMMAND)
            return os.pread(fd, len(addresses), _ADDRESSES.start) == addresses
        finally:
            os.close(fd)

    def _state(self, fd: int) -> int:
        """Control and status."""
        return int.from_bytes(os.pread(fd, 4, self._control), "little")

    def _switch(self, fd: int, state: int, bits: int) -> None:
        control = state & 0xFFFF & ~(_POWER_IS_OFF | _INDICATOR) | bits
        os.pwrite(fd, control.to_bytes(2, "little"), self._control)


_slots: list[Slot] = []


def eject_stand_ins() -> None:
    """Ejects vsock and the disks of size 0. Raises OSError or GuestError."""
    for slot in find_slots():
        device = slot.virtio_device()
        if device is not None and (_is_vsock(device) or _is_empty_disk(device)):
            slot.eject(device)


def eject_vsock() -> None:
    """Raises OSError or GuestError."""
    for slot in find_slots():
        device = slot.virtio_device()
        if device is not None and _is_vsock(device):
            slot.eject(device)


def plug_in() -> None:
    """Sets up what the host has plugged in. Raises OSError."""
    all_work = True
    for slot in find_slots():
        all_work &= slot.plug_in()
    if not all_work:
        write_text(f"{PCI}/rescan", "1")


def find_slots() -> list[Slot]:
    """Those that can be switched on and off, in the order of their ports. They are looked for once. Raises OSError."""
    if not _slots:
        for name in sorted(os.listdir(f"{PCI}/devices")):
            port = f"{PCI}/devices/{name}"
            registers = _slot_registers(read_bytes(f"{port}/config", _CONFIG_SIZE))
            if registers is not None:
                _slots.append(Slot(port, registers))
    return _slots


def _slot_registers(config: bytes) -> int | None:
    """Where the PCI Express capability begins, if that is the configuration of a port with a slot and a switch."""
    if len(config) < _CONFIG_SIZE or config[_CLASS + 1 : _CLASS + 4] != _BRIDGE:
        return None
    at, seen = config[_CAPABILITIES], 0
    while _HEADER_SIZE <= at < _CONFIG_SIZE - _SLOT_CONTROL and seen < _CONFIG_SIZE:
        if config[at] == _PCI_EXPRESS:
            flags = int.from_bytes(config[at + _FLAGS : at + _FLAGS + 2], "little")
            capabilities = config[at + _SLOT_CAPABILITIES]
            has_switch = flags & _HAS_SLOT and capabilities & _HAS_POWER_SWITCH
            return at if has_switch else None
        at, seen = config[at + 1], seen + 1
    return None


def _is_vsock(device: str) -> bool:
    return _number(device) == _VSOCK


def _is_empty_disk(device: str) -> bool:
    if _number(device) != _DISK:
        return False
    sizes = [
        read_text(f"{device}/block/{name}/size").strip() for name in os.listdir(f"{device}/block")
    ]
    return sizes == ["0"]


def _number(device: str) -> str:
    return read_text(f"{device}/device").strip()
