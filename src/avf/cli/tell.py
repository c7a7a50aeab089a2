"""How the life of a VM is told: in AVF's words for people and scripts, or as one JSON object a line."""

import threading
from dataclasses import asdict
from typing import Protocol

import click

from avf.cli.options import flush_output
from avf.client import (
    DeathReason,
    DeathReport,
    ErrorCode,
    Event,
    PayloadError,
    PayloadFinished,
    PayloadReady,
    PayloadStarted,
    VirtualMachine,
)
from avf.printable import printable
from avf.printing import printable_json


class Teller(Protocol):
    """Told of one VM, of events from threads of the session."""

    def created(self, vm: VirtualMachine, description: str) -> None: ...

    def event(self, event: Event) -> None: ...

    def ended(self, reason: DeathReason | None, report: DeathReport | None) -> None:
        """The last of all; `report` where the death calls for an explanation."""


class TextTeller:
    def __init__(self, *, console_was_shown: bool) -> None:
        self._console_was_shown = console_was_shown

    def created(self, vm: VirtualMachine, description: str) -> None:
        print_line(f"Created VM from {description} with CID {vm.cid}, state is {vm.state.name}.")

    def event(self, event: Event) -> None:
        match event:
            case PayloadStarted():
                click.echo("payload started", err=True)
            case PayloadReady():
                click.echo("payload is ready", err=True)
            case PayloadFinished(exit_code):
                click.echo(f"payload finished with exit code {exit_code}", err=True)
            case PayloadError(code, message):
                click.echo(
                    f"VM encountered an error: code={code}, message={printable(message)}", err=True
                )
                if event.remedy:
                    click.echo(f"  try: {event.remedy}", err=True)

    def ended(self, reason: DeathReason | None, report: DeathReport | None) -> None:
        print_line(f"VM ended: {reason}")
        if report is not None:
            console = not self._console_was_shown and reason != DeathReason.KILLED
            for line in report.lines(console=console):
                click.echo(printable(line), err=True)


class SourceTeller:
    """For a payload whose source was given: its output alone goes to standard output, all else is a note."""

    def __init__(self, *, console_was_shown: bool, debuggable: bool) -> None:
        self._console_was_shown = console_was_shown
        self._debuggable = debuggable
        self._told_why = False

    def created(self, vm: VirtualMachine, description: str) -> None:
        level = "debuggable" if self._debuggable else "not debuggable"
        print_note(f"running {description} in VM {vm.cid}, {level}")

    def event(self, event: Event) -> None:
        match event:
            case PayloadError(code, message):
                self._told_why = True
                what = "did not run" if event.signal is None else "was killed"
                kind = "" if code == ErrorCode.UNKNOWN else f" ({code})"
                print_note(f"the payload {what}: {message}{kind}")
                if event.remedy:
                    print_note(f"  try: {event.remedy}")

    def ended(self, reason: DeathReason | None, report: DeathReport | None) -> None:
        if reason != DeathReason.SHUTDOWN and not self._told_why:
            print_note(f"VM ended: {reason}")
        if report is not None and reason != DeathReason.KILLED and not self._told_why:
            for line in report.lines(console=not self._console_was_shown):
                print_note(line)


class JsonTeller:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    def created(self, vm: VirtualMachine, description: str) -> None:
        self._write("created", source=description, cid=vm.cid, state=vm.state.name)

    def event(self, event: Event) -> None:
        match event:
            case PayloadStarted():
                self._write("payload_started")
            case PayloadReady():
                self._write("payload_ready")
            case PayloadFinished(exit_code):
                self._write("payload_finished", exit_code=exit_code)
            case PayloadError(code, message):
                self._write("payload_error", code=str(code), message=message)

    def ended(self, reason: DeathReason | None, report: DeathReport | None) -> None:
        details = None if report is None else report_as_dict(report)
        self._write("died", reason=str(reason), report=details)

    def _write(self, event: str, **fields: object) -> None:
        with self._lock:
            print_line(printable_json({"event": event, **fields}))


def report_as_dict(report: DeathReport) -> dict[str, object]:
    """For JSON."""
    timeline = None if report.timeline is None else report.timeline.as_dict()
    return asdict(report) | {"reason": str(report.reason), "timeline": timeline}


def print_note(text: str) -> None:
    """One line to standard error."""
    click.echo(printable(text), err=True)


def print_line(text: str) -> None:
    """One line to standard output at once: the guest writes there too."""
    click.echo(printable(text))
    flush_output()
