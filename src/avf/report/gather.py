"""Asks a VM, and reads its files, for a report."""

import os
import platform
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from avf.client import DeathReport, Inspection, Refused
from avf.report.facts import VmReport
from avf.report.proof import digest, proofs

MAX_TEXT = 64 << 10
"""Bytes of console and of log; virtmgr keeps as many."""
_SECONDS = 10.0


def gather(vm: Inspection, death: DeathReport | None) -> VmReport:
    """`death`: how the VM died, None for one that lives. Raises ClientError if it can be asked no more."""
    details, parts = vm.details(), vm.parts()
    return VmReport(
        made=datetime.now(UTC),
        version=version("avf-linux"),
        host=_host(),
        details=details,
        parts=parts,
        timeline=vm.timeline(),
        metrics=vm.metrics(),
        history=tuple(vm.history()),
        apks=tuple(proofs(parts.files)),
        files=tuple(map(digest, parts.files)),
        console=_tail(lambda: vm.attach_console(live=False)) if details.has_console else None,
        log=_tail(lambda: vm.follow_log(live=False)) if details.has_log else None,
        death=death,
    )


def _host() -> str:
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        system = ""
    kernel = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return ", ".join(filter(None, [system, kernel, f"{os.cpu_count()} CPUs"]))


def _tail(attach: Callable[[], socket.socket]) -> str | None:
    """What is kept of a stream; None if the VM does not give it."""
    try:
        stream = attach()
    except Refused:
        return None
    data = b""
    with stream:
        stream.settimeout(_SECONDS)
        try:
            while len(data) < MAX_TEXT and (piece := stream.recv(MAX_TEXT)):
                data += piece
        except OSError:
            pass  # what came before is worth showing
    return data[:MAX_TEXT].decode(errors="replace")
