"""The agent's part in copying the running machine: the payload stands still meanwhile, and every copy becomes somebody
of its own before it goes on.

Over the port that `avf.guest.template` describes, one line of ASCII each:

    host    fork
    guest   avf-quiet 2
                the payload stands still, and the vsock device is ejected
            avf-refused REASON
                nothing has changed
    host    go TIME
                to the original, with a vsock device again; TIME: nanoseconds since 1970
    guest   avf-goes-on 1
    host    clone NUMBER SEED TIME
                to a copy; NUMBER: from 1, no other copy has it; SEED: 32 random bytes in hex
    guest   avf-clone 4
                the copy has taken that identity

A machine that has given its payload a secret is not copied: the copies would share it. A copy is not copied either: it
closes the port.
"""

import os
import threading
import time
from collections.abc import Callable

from avf.guest import libc, limits, phases, slots
from avf.guest.clock import set_clock
from avf.guest.errors import GuestError
from avf.guest.host_link import HostLink
from avf.guest.report import log, report_failure
from avf.guest.secrets import PayloadLayer
from avf.guest.template import (
    SEED_SIZE,
    TAKEN,
    find_port,
    read_line,
    reseed,
)

QUIET = b"avf-quiet 2\n"
GOES_ON = b"avf-goes-on 1\n"

_BOOT_ID, _OWN_BOOT_ID = "/proc/sys/kernel/random/boot_id", "/run/boot_id"
_PATIENCE = 5.0
_MAX_REASON = 160


class Forks:
    """What the payload's API and whoever copies this machine share."""

    def __init__(
        self, host: HostLink, layer: PayloadLayer, new_layer: Callable[[], PayloadLayer]
    ) -> None:
        """`new_layer`: from which a copy's secrets derive."""
        self._host = host
        self._layer = layer
        self._new_layer = new_layer
        self._changed = threading.Condition()
        self._gave_secret = False
        self.number = 0
        """Of this copy; 0 in the original."""

    def secret_layer(self) -> PayloadLayer:
        """From now on there will be no copies."""
        with self._changed:
            self._gave_secret = True
            return self._layer

    def wait_until_cloned(self) -> int:
        """The number of this copy. In the original it never returns."""
        with self._changed:
            self._changed.wait_for(lambda: self.number)
            return self.number

    def serve(self) -> None:
        """Has a thread do what the host asks for. Raises OSError or GuestError."""
        port = os.open(find_port(), os.O_RDWR | os.O_CLOEXEC)
        threading.Thread(target=self._serve, args=(port,), name="forks", daemon=True).start()

    def _serve(self, port: int) -> None:
        """An agent that cannot go on after having been copied has no use: the machine ends with it."""
        try:
            while not self.number:
                line = read_line(port)
                if line != b"fork":
                    raise GuestError(f"the host asks for {line[:_MAX_REASON]!r}")
                self._fork(port)
            os.close(port)
        except Exception as error:  # noqa: BLE001
            log(f"forks: {error}")
            report_failure(f"MICRODROID_UNKNOWN_RUNTIME_ERROR|fork: {error}")
            os._exit(1)

    def _fork(self, port: int) -> None:
        with self._changed:
            try:
                self._stand_still()
            except (OSError, GuestError) as error:  # TimeoutError among them
                reason = " ".join(str(error).split()).encode("ascii", "replace")[:_MAX_REASON]
                os.write(port, b"avf-refused " + reason + b"\n")
                return
            os.write(port, QUIET)
            self._go_on(port, read_line(port))
            self._changed.notify_all()

    def _stand_still(self) -> None:
        """Raises GuestError or OSError if this cannot be, and then nothing has changed."""
        limits.freeze(_PATIENCE)
        try:
            if self._gave_secret:
                raise GuestError("its payload has asked for secrets, which a clone would share")
            self._host.hang_up(_PATIENCE)
            self._eject_vsock()
        except BaseException:
            limits.thaw()
            raise

    def _eject_vsock(self) -> None:
        try:
            slots.eject_vsock()
        except BaseException:
            slots.plug_in()
            self._host.call_again()
            raise

    def _go_on(self, port: int, line: bytes) -> None:
        """As the line says. Raises GuestError or OSError."""
        now, clone = parse_order(line)
        time.clock_settime_ns(time.CLOCK_REALTIME, now)
        if clone is not None:
            self.number, seed = clone
            reseed(seed)
            self._layer = self._new_layer()
            take_boot_id()
            phases.begin_anew()
            os.write(port, TAKEN)
            phases.ended("identity")
        slots.plug_in()
        self._host.call_again()
        if clone is not None:
            self._introduce()
        limits.thaw()
        if clone is None:
            os.write(port, GOES_ON)

    def _introduce(self) -> None:
        """Tells the host of a copy what it has heard of the original."""
        phases.ended("connect")
        set_clock(phases.asking(self._host.get_time))
        phases.ended("clock")
        self._host.report_start_phases(*phases.report())
        self._host.notify_payload_started()
        if self._host.was_told_ready:
            self._host.notify_payload_ready()


def parse_order(line: bytes) -> tuple[int, tuple[int, bytes] | None]:
    """Nanoseconds since 1970; and number and seed of a copy, None for the original. Raises GuestError."""
    try:
        word, *rest = line.decode("ascii").split(" ")
        if word == "go":
            (now,) = map(int, rest)
            clone = None
        elif word == "clone":
            number, text, time_text = rest
            now, clone = int(time_text), (int(number), bytes.fromhex(text))
        else:
            raise ValueError
    except ValueError:
        raise GuestError("the host's order to go on is malformed") from None
    if now <= 0 or (clone is not None and (clone[0] <= 0 or len(clone[1]) != SEED_SIZE)):
        raise GuestError("the host's order to go on is malformed")
    return now, clone


def random_uuid(drawn: bytes) -> str:
    """Of version 4 (RFC 9562), of 16 random bytes: the module for it takes long to import."""
    number = int.from_bytes(drawn, "big")
    number = number & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def take_boot_id() -> None:
    """The kernel keeps what it has once told: from now on it is not asked any more. Raises OSError."""
    with open(_OWN_BOOT_ID, "w", encoding="ascii") as file:
        file.write(f"{random_uuid(os.urandom(16))}\n")
    os.chmod(_OWN_BOOT_ID, 0o444)
    libc.mount(_OWN_BOOT_ID, _BOOT_ID, "", libc.MS_BIND)
