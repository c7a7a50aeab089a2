# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/StartPhase.aidl

"""AIDL parcelable org.avf.linux.control.StartPhase."""

from __future__ import annotations

from avf.binder import Long, Parcelable

__all__ = ["StartPhase"]


class StartPhase(Parcelable, descriptor="org.avf.linux.control.StartPhase"):
    """A part of a VM's start."""

    name: str = ""
    in_guest: bool = False
    """Told by the guest's agent, before the payload had the word; else seen by the host."""
    begin_nanos: Long = 0
    """Since createVm was called, as all times of a timeline."""
    end_nanos: Long = 0
