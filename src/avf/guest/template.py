"""A guest that becomes a template: booted, with neither disks nor vsock nor identity, it waits until its host has made
a clone of it and says who the clone is.

Over a virtio port of its own, one line of ASCII each:

    guest   avf-template 4
                it has nothing left to do: its host may save it and start any number of clones
    host    rehearse SEED
                the clone waits for its owner, and has the time to do once what it will do then
    guest   avf-rehearsed 4
    host    identity SEED TIME
                SEED: 32 random bytes in hex; TIME: nanoseconds since 1970
    guest   avf-clone 4
                the clone has taken that identity, and has not looked at its disks yet
"""

import fcntl
import os
import struct
import time
from collections.abc import Callable

from avf.guest import phases, slots
from avf.guest.errors import GuestError
from avf.guest.files import read_text

PORT_NAME = "avf.template"
READY = b"avf-template 4\n"
TAKEN = b"avf-clone 4\n"
REHEARSED = b"avf-rehearsed 4\n"
SEED_SIZE = 32

_PORTS = "/sys/class/virtio-ports"
_RANDOM = "/dev/random"
_ADD_ENTROPY, _RESEED = 0x4008_5203, 0x5207
"""RNDADDENTROPY and RNDRESEEDCRNG of random(4)."""
_ENTROPY = struct.Struct("=ii")
_MAX_LINE = 256
_POLL = 0.001
_PORT_TRIES = 5000


def wait_to_be_cloned(rehearse: Callable[[], None]) -> None:
    """Returns in a clone, once it has an identity of its own and its devices. Raises OSError or GuestError."""
    port = os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)
    try:
        slots.eject_stand_ins()
        os.write(port, READY)
        line = read_line(port)
        if (early := parse_rehearsal(line)) is not None:
            # What the kernel draws when it is needed first is no other clone's, either.
            reseed(early)
            rehearse()
            os.write(port, REHEARSED)
            line = read_line(port)
        seed, now = parse_identity(line)
        reseed(seed)
        time.clock_settime_ns(time.CLOCK_REALTIME, now)
        phases.begin_anew()
        os.write(port, TAKEN)
    finally:
        os.close(port)
    slots.plug_in()


def find_port(ports: str = _PORTS) -> str:
    """The device of the port, which appears once the host's end has answered. Raises GuestError."""
    for _ in range(_PORT_TRIES):
        for name in os.listdir(ports) if os.path.isdir(ports) else ():
            if _name(f"{ports}/{name}/name") == PORT_NAME:
                return f"/dev/{name}"
        time.sleep(_POLL)
    raise GuestError(f"there is no virtio port {PORT_NAME}")


def read_line(fd: int) -> bytes:
    """Without its end. Raises GuestError if it is too long."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) > _MAX_LINE:
            raise GuestError("the line that should give this guest an identity has no end")
        piece = os.read(fd, _MAX_LINE)
        if not piece:  # the host's end is not open yet
            time.sleep(_POLL)
        line += piece
    return line[:-1]


def parse_rehearsal(line: bytes) -> bytes | None:
    """The seed; None if the line is another. Raises GuestError."""
    word, _, text = line.partition(b" ")
    if word != b"rehearse":
        return None
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        seed = b""
    if len(seed) != SEED_SIZE:
        raise GuestError("the line that has this guest rehearse is malformed")
    return seed


def parse_identity(line: bytes) -> tuple[bytes, int]:
    """Seed, nanoseconds since 1970. Raises GuestError."""
    try:
        word, seed_text, time_text = line.decode("ascii").split(" ")
        seed, now = bytes.fromhex(seed_text), int(time_text)
    except ValueError:
        raise GuestError("the line that should give this guest an identity is malformed") from None
    if word != "identity" or len(seed) != SEED_SIZE or now <= 0:
        raise GuestError("the line that should give this guest an identity is malformed")
    return seed, now


def reseed(seed: bytes) -> None:
    """From now on the kernel's random numbers are this clone's own: also the boot ID, which is made when it is read
    first.
    """
    fd = os.open(_RANDOM, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _ADD_ENTROPY, _ENTROPY.pack(8 * len(seed), len(seed)) + seed)
        fcntl.ioctl(fd, _RESEED)
    finally:
        os.close(fd)


def _name(path: str) -> str:
    try:
        return read_text(path).strip()
    except FileNotFoundError:
        return ""  # the port is just coming up
