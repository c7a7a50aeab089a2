# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/DeathReport.aidl

"""AIDL parcelable org.avf.linux.control.DeathReport."""

from __future__ import annotations

from avf.binder import Parcelable, field

__all__ = ["DeathReport"]


class DeathReport(Parcelable, descriptor="org.avf.linux.control.DeathReport"):
    """How a VM died, for people."""

    reason: DeathReason = field(factory=lambda: DeathReason.UNKNOWN)
    last_step: str = ""
    """The last thing known to have happened in its life."""
    vmm_status: int = 0
    """The VMM's exit status; negative: the signal that ended it."""
    vmm_events: list[str] = []
    vmm_stderr: str = ""
    """The end of it."""
    failure: str = ""
    """What the guest wrote to its failure port, including what follows the reason's name."""
    console_tail: list[str] = []
    """The last lines."""
    lost_output: list[str] = []
    """What of its output its owner did not get, and why: "console: No space left on device"."""
    timeline: Timeline | None = None
    """As of getTimeline."""


from avf.aidl.virtualizationcommon import DeathReason  # noqa: E402

from ._Timeline import Timeline  # noqa: E402
