"""The command line of the daemon."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from avf.arguments import ArgumentParser
from avf.policy import SYSTEM_POLICY_FILE
from avf.runtime import SYSTEM_RUNTIME_DIR, user_runtime_dir, user_state_dir
from avf.vsock import GUEST_CID_MAX, GUEST_CID_MIN


@dataclass(frozen=True, slots=True)
class Options:
    """`max_vms` and `max_connections` are for each party but root; None: as many as there can be."""

    system: bool
    directory: Path
    state: Path | None
    """What outlives a reboot is kept there; None: where the system says, or in `directory`."""
    policy: Path
    log_file: Path | None
    idle_timeout: float
    ready_fd: int | None
    cids: tuple[int, int]
    max_vms: int | None
    max_connections: int | None
    tombstones: int
    tombstone_bytes: int
    ramdump_bytes: int
    prometheus: tuple[str, int] | None
    opentelemetry: bool


def parse(arguments: list[str] | None) -> Options:
    """Ends the process with status 2 and a usage line if `arguments` are not good. Raises OSError."""
    given = _parser().parse_args(arguments)
    default = SYSTEM_RUNTIME_DIR if given.system else None
    return Options(
        system=given.system,
        directory=given.directory or default or user_runtime_dir(),
        state=None if given.system or given.directory else user_state_dir(),
        policy=given.policy,
        log_file=given.log_file,
        idle_timeout=given.idle_timeout,
        ready_fd=given.ready_fd,
        cids=given.cid_range,
        max_vms=given.max_vms if given.system else None,
        max_connections=given.max_connections if given.system else None,
        tombstones=given.tombstones,
        tombstone_bytes=given.tombstone_kib << 10,
        ramdump_bytes=given.ramdump_mib << 20,
        prometheus=given.prometheus,
        opentelemetry=given.opentelemetry,
    )


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="virtualizationservice",
        description="Gives out what is unique on a host: CIDs, directories of VMs, the tombstone port.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--user", dest="system", action="store_false", help="serve the calling user (default)"
    )
    kind.add_argument(
        "--system", action="store_true", default=False, help="serve every user of the host"
    )
    parser.add_argument(
        "--directory",
        type=_absolute,
        help="keep socket, state and VMs there instead of where clients look",
    )
    parser.add_argument("--policy", type=Path, default=SYSTEM_POLICY_FILE, metavar="FILE")
    parser.add_argument(
        "--idle-timeout",
        type=float,
        default=0,
        metavar="SECONDS",
        help="leave when there has been no VM and no connection for so long (0: never)",
    )
    parser.add_argument(
        "--log-file",
        type=_absolute,
        metavar="FILE",
        help="write there instead of to standard error; at 1 MiB FILE becomes FILE.1",
    )
    parser.add_argument(
        "--ready-fd", type=_descriptor, help="closed once the service can be reached"
    )
    _add_limits(parser)
    _add_metrics(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cid-range",
        type=_cids,
        default=f"{GUEST_CID_MIN}-{GUEST_CID_MAX}",
        metavar="FIRST-LAST",
        help="CIDs to give out",
    )
    parser.add_argument(
        "--max-vms", type=_count, default=1024, metavar="N", help="VMs a user may have (--system)"
    )
    parser.add_argument(
        "--max-connections",
        type=_count,
        default=512,
        metavar="N",
        help="connections a user may have (--system)",
    )
    parser.add_argument(
        "--tombstones",
        type=_tombstones,
        default=32,
        metavar="N",
        help="tombstones to keep, per user (1 to 100)",
    )
    parser.add_argument(
        "--tombstone-kib", type=_count, default=4096, metavar="N", help="longest tombstone"
    )
    parser.add_argument(
        "--ramdump-mib",
        type=_count,
        default=256,
        metavar="N",
        help="longest memory dump; all tombstones of a user together may have twice as much",
    )


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prometheus",
        type=_address,
        metavar="[HOST:]PORT",
        help="serve metrics over HTTP (needs prometheus-client); HOST is 127.0.0.1 if left out",
    )
    parser.add_argument(
        "--opentelemetry",
        action="store_true",
        default=False,
        help="report metrics to the OpenTelemetry SDK of this process (needs opentelemetry-api)",
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not 0 <= int(port) <= 65535:
        raise ValueError
    return host or "127.0.0.1", int(port)


def _cids(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    numbers = int(first), int(last)
    if not GUEST_CID_MIN <= numbers[0] <= numbers[1] <= GUEST_CID_MAX:
        raise ValueError
    return numbers


def _descriptor(text: str) -> int:
    fd = int(text)
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        raise ValueError from None
    return fd


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _tombstones(text: str) -> int:
    if (number := _count(text)) > 100:
        raise ValueError
    return number


def _absolute(text: str) -> Path:
    return Path(text).absolute()


_address.__name__ = "address"
_cids.__name__ = "CID range"
_descriptor.__name__ = "open descriptor"
_count.__name__ = _tombstones.__name__ = "number"
