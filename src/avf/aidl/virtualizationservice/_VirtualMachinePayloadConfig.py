# Written by avf-aidl: change the .aidl file and run it again.
# Source: android/system/virtualizationservice/VirtualMachinePayloadConfig.aidl

"""AIDL parcelable android.system.virtualizationservice.VirtualMachinePayloadConfig."""

from __future__ import annotations

from avf.binder import Parcelable, ParcelFileDescriptor

__all__ = ["VirtualMachinePayloadConfig"]


class VirtualMachinePayloadConfig(
    Parcelable, descriptor="android.system.virtualizationservice.VirtualMachinePayloadConfig"
):
    """A payload named without a configuration file in its APK."""

    payload_binary_name: str = ""
    extra_apks: list[ParcelFileDescriptor] = []
    """As of 2024: APKs beside the main one, each with its idsig in VirtualMachineAppConfig's extraIdsigs."""
