# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/PayloadInvocation.aidl

"""AIDL parcelable org.avf.linux.control.PayloadInvocation."""

from __future__ import annotations

from avf.binder import Parcelable, ParcelFileDescriptor

__all__ = ["PayloadInvocation"]


class PayloadInvocation(Parcelable, descriptor="org.avf.linux.control.PayloadInvocation"):
    """How a payload is called. Nothing verifies it: it is not part of the payload's identity."""

    arguments: list[str] = []
    """What follows the program's own name in argv."""
    environment: list[str] = []
    """Variables of its environment beside the guest's own, each NAME=VALUE; no name comes twice."""
    stderr_fd: ParcelFileDescriptor | None = None
    """Where its standard error goes; null for where its standard output goes, which is the VM's log. Only for VMs
    that are debuggable and not forkable.
    """
