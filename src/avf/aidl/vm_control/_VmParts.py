# Written by avf-aidl: change the .aidl file and run it again.
# Source: org/avf/linux/control/VmParts.aidl

"""AIDL parcelable org.avf.linux.control.VmParts."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["VmParts"]


class VmParts(Parcelable, descriptor="org.avf.linux.control.VmParts"):
    """What a VM was made of."""

    payload: str = ""
    """Of an app: the payload's file, or the path of its configuration in the APK; else empty."""
    is_app: bool = False
    is_debuggable: bool = False
    arguments: list[str] = []
    """The payload's."""
    variables: list[str] = []
    """The names of the payload's variables, whose values may be secret."""
    files: list[VmFile] = []


from ._VmFile import VmFile  # noqa: E402
