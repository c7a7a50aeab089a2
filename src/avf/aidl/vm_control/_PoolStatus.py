# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/PoolStatus.aidl

"""AIDL parcelable org.avf.linux.control.PoolStatus."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["PoolStatus"]


class PoolStatus(Parcelable, descriptor="org.avf.linux.control.PoolStatus"):
    """The clones that wait for VMs of one client."""

    wanted: int = 0
    """How many are to wait."""
    waiting: int = 0
    """How many do."""
    is_settled: bool = False
    """Whether no more will be made before another VM is created."""
    taken: int = 0
    """How many VMs were clones that had waited."""
    missed: int = 0
    """For how many VMs that can be clones none waited."""
    vmm_pids: list[int] = []
    """The processes of the virtual machine monitors that wait."""
    problem: str = ""
    """Why there are not as many as there should be, for people; empty if nothing is known against it."""
