# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/PayloadState.aidl

"""AIDL enum org.avf.linux.control.PayloadState."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["PayloadState"]


class PayloadState(Enum):
    """How far a payload has come."""

    STARTING = 0
    STARTED = 1
    READY = 2
    FINISHED = 3
    HANGUP = 4
