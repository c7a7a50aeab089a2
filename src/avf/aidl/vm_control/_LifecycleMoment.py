# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/LifecycleMoment.aidl

"""AIDL parcelable org.avf.linux.control.LifecycleMoment."""

from __future__ import annotations

from avf.binder import Long, Parcelable, field

__all__ = ["LifecycleMoment"]


class LifecycleMoment(Parcelable, descriptor="org.avf.linux.control.LifecycleMoment"):
    """When a step was taken."""

    step: LifecycleStep = field(factory=lambda: LifecycleStep.CREATION_ASKED)
    nanos: Long = 0
    """Since createVm was called."""


from ._LifecycleStep import LifecycleStep  # noqa: E402
