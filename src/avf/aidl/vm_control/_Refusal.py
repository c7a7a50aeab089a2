# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/Refusal.aidl

"""AIDL enum org.avf.linux.control.Refusal."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["Refusal"]


class Refusal(Enum):
    """Why a call was refused with a service-specific error: the code of the error."""

    FAILED = -1
    """Anything without a code of its own; the message tells."""
    NOT_RUNNING = -2
    """The call needs a VM that runs."""
    STARTED_BEFORE = -3
    """A VM can be started once."""
    START_FAILED = -4
    """The virtual machine monitor could not be started."""
    NO_IMAGE = -5
    """There is no guest image, or it cannot be used."""
    NO_SERVICE = -6
    """virtualizationservice cannot be reached."""
    FILE_UNUSABLE = -7
    """A file that was given cannot be used; the message names its field."""
