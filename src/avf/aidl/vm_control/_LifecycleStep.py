# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/LifecycleStep.aidl

"""AIDL enum org.avf.linux.control.LifecycleStep."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["LifecycleStep"]


class LifecycleStep(Enum):
    """What happens to a VM, in order."""

    CREATION_ASKED = 0
    """createVm was called."""
    CREATED = 1
    START_ASKED = 2
    STARTED = 3
    """The VMM runs."""
    PAYLOAD_STARTED = 4
    PAYLOAD_READY = 5
    PAYLOAD_FINISHED = 6
    PAYLOAD_FAILED = 7
    """The guest could not run its payload, or the payload was killed."""
    DIED = 8
