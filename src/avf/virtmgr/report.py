"""A death told to people: all that is known of how a VM ended."""

from collections.abc import Sequence

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.vm_control import DeathReport
from avf.vmm import ExitReport

CONSOLE_LINES = 20
MAX_LINE = 500
MAX_TEXT = 4096


def death_report(
    reason: DeathReason,
    last_step: str,
    exit: ExitReport | None,
    failure: str,
    console: bytes,
    lost: Sequence[str] = (),
) -> DeathReport:
    """`exit` None: the VMM could not be waited for. `console`: the last of what the console said.
    `lost`: what of the output is lost, and why.
    """
    report = DeathReport(
        reason=reason,
        last_step=last_step,
        failure=failure[:MAX_TEXT],
        console_tail=last_lines(console),
        lost_output=list(lost),
    )
    if exit is not None:
        report.vmm_status = exit.returncode
        report.vmm_events = [event[:MAX_LINE] for event in exit.events]
        report.vmm_stderr = exit.stderr_tail.strip()[-MAX_TEXT:]
    return report


def last_lines(text: bytes) -> list[str]:
    """The last lines that are not empty, cut where they are too long."""
    lines = [line.rstrip() for line in text.decode(errors="replace").splitlines()]
    return [line[:MAX_LINE] for line in lines if line][-CONSOLE_LINES:]
