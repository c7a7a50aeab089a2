"""The entry of an APK that says which file of it is the payload, for those who are given the APK alone."""

import msgspec

from avf.apk import ApkError, EntryError, read_entry

ENTRY = "assets/avf-payload.json"
_MAX_SIZE = 4096


class _Recorded(msgspec.Struct, frozen=True):
    main: str


def encode_main(name: str) -> bytes:
    """The entry's content."""
    return msgspec.json.encode(_Recorded(name))


def recorded_main(apk: int) -> str | None:
    """The payload's name in the APK open as `apk`, as `build` recorded it; None if it says nothing to go by."""
    try:
        text = read_entry(apk, ENTRY, limit=_MAX_SIZE)
        name = msgspec.json.decode(text, type=_Recorded).main
    except (ApkError, EntryError, OSError, KeyError, msgspec.DecodeError, ValueError):
        return None
    return name if name and "/" not in name and name.isprintable() else None
