# Written by avf-aidl: change the .aidl file and run it again.
# Source: com/example/Note.aidl

"""AIDL parcelable com.example.Note."""

from __future__ import annotations

from avf.binder import Parcelable

__all__ = ["Note"]


class Note(Parcelable, descriptor="com.example.Note"):
    """What a notebook keeps."""

    title: str = ""
    body: bytes = b""
