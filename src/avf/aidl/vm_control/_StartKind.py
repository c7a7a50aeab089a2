# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/StartKind.aidl

"""AIDL enum org.avf.linux.control.StartKind."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["StartKind"]


class StartKind(Enum):
    """How a guest came up."""

    UNKNOWN = 0
    """It has not, or the VMM does not tell."""
    COLD = 1
    """It booted by itself."""
    CLONE = 2
    """It began as a clone of a template."""
    WAITED = 3
    """It is such a clone, and had waited for its owner."""
