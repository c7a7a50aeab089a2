# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/CpuTopology.aidl

"""AIDL enum android.system.virtualizationservice.CpuTopology."""

from __future__ import annotations

from avf.binder import Enum

__all__ = ["CpuTopology"]


class CpuTopology(Enum, backing="byte"):
    """How many CPUs a VM gets."""

    ONE_CPU = 0
    MATCH_HOST = 1
