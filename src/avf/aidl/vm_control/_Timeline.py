# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/Timeline.aidl

"""AIDL parcelable org.avf.linux.control.Timeline."""

from __future__ import annotations

from avf.binder import Long, Parcelable, field

__all__ = ["Timeline"]


class Timeline(Parcelable, descriptor="org.avf.linux.control.Timeline"):
    """Where the time of a VM's start went, and when its life took which step."""

    kind: StartKind = field(factory=lambda: StartKind.UNKNOWN)
    created_unix_nanos: Long = 0
    """When createVm was called: CLOCK_REALTIME, in nanoseconds since 1970."""
    phases: list[StartPhase] = []
    """The host's, then the guest's, each in the order of time."""
    moments: list[LifecycleMoment] = []
    guest_error_nanos: Long = -1
    """By how much the times of the guest's phases may be wrong, all in the same direction; -1: the guest has told
    none.
    """


from ._LifecycleMoment import LifecycleMoment  # noqa: E402
from ._StartKind import StartKind  # noqa: E402
from ._StartPhase import StartPhase  # noqa: E402
