"""VmPayloadConfig: the JSON file in an APK that says what to run."""

from typing import Literal

import msgspec

from avf.decoding import in_words

MAX_SIZE = 1 << 20


class PayloadConfigError(ValueError):
    """The configuration cannot be used; the message names it and the field."""


class Os(msgspec.Struct, frozen=True):
    name: str


class Task(msgspec.Struct, frozen=True):
    command: str
    type: Literal["executable", "microdroid_launcher"] = "executable"


class Apex(msgspec.Struct, frozen=True):
    name: str


class ExtraApk(msgspec.Struct, frozen=True):
    path: str


class VmPayloadConfig(msgspec.Struct, frozen=True):
    """Unknown keys are ignored. A missing task is for the guest to refuse."""

    os: Os = Os("microdroid")
    task: Task | None = None
    apexes: list[Apex] = []
    extra_apks: list[ExtraApk] = []
    prefer_staged: bool = False
    export_tombstones: bool | None = None
    enable_authfs: bool = False

    @classmethod
    def parse(cls, text: bytes, source: str) -> "VmPayloadConfig":
        """Raises PayloadConfigError."""
        try:
            return msgspec.json.decode(text.decode(), type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise PayloadConfigError(f"{source}: {in_words(e)}") from None

    @classmethod
    def for_binary(cls, name: str) -> "VmPayloadConfig":
        """As if written for `payloadBinaryName`. Raises PayloadConfigError if it has a path in it."""
        if "/" in name:
            raise PayloadConfigError(f"Payload binary name must not specify a path: {name}")
        return cls(task=Task(command=name, type="microdroid_launcher"))
