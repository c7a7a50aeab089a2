"""What can end a guest, and what the host is told about it.

GuestError                        told as UNKNOWN with its own text; the failure port gets the whole chain of causes
 +-- FailedToConnect              the host's service did not answer, so only the failure port can tell
 +-- PayloadChanged               the payload is not the one this instance has seen before, nor its successor
 |    +-- PayloadDowngraded       it is an older version
 +-- InstanceRolledBack           the instance image is older than what the host has seen of the instance
 +-- PayloadVerificationFailed    a signature, a digest or a device below the payload is not what it should be
 +-- InvalidConfig                the payload's configuration cannot be followed
 +-- PayloadKilled                a signal ended the payload
"""

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode


class GuestError(Exception):
    """Anything without a class of its own. `text` is all the host's clients see of it."""

    code = ErrorCode.UNKNOWN
    reason = DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR


class FailedToConnect(GuestError):
    """The host's service did not answer."""

    reason = DeathReason.MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE


class PayloadChanged(GuestError):
    """The payload is not the one this instance has seen before, nor its successor."""

    code = ErrorCode.PAYLOAD_CHANGED
    reason = DeathReason.MICRODROID_PAYLOAD_HAS_CHANGED


class PayloadDowngraded(PayloadChanged):
    """It is an older version. AVF has no code of its own for that; the text begins with "Downgrade refused"."""


class InstanceRolledBack(GuestError):
    """The instance image is older than what the host has seen of the instance."""


class PayloadVerificationFailed(GuestError):
    """The payload is not what its signature says."""

    code = ErrorCode.PAYLOAD_VERIFICATION_FAILED
    reason = DeathReason.MICRODROID_PAYLOAD_VERIFICATION_FAILED


class InvalidConfig(GuestError):
    """The payload's configuration cannot be followed."""

    code = ErrorCode.PAYLOAD_CONFIG_INVALID
    reason = DeathReason.MICRODROID_INVALID_PAYLOAD_CONFIG


class PayloadKilled(GuestError):
    """A signal ended the payload."""

    def __init__(self, number: int) -> None:
        super().__init__(f"Payload exited due to signal: {number} ({_signal_name(number)})")
        self.number = number


def chain(error: BaseException) -> str:
    """`outermost: ...: innermost`, each with its class where it is none of ours."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(texts) < 16:
        text = str(current)
        if not isinstance(current, GuestError):
            text = f"{type(current).__name__}: {text}" if text else type(current).__name__
        texts.append(text)
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return ": ".join(texts)


def failure_text(error: BaseException) -> str:
    """What goes to the failure port: a death reason's name; the unknown one has the chain of causes behind it."""
    reason = error.reason if isinstance(error, GuestError) else GuestError.reason
    if reason is GuestError.reason:
        return f"{reason.name}|{chain(error)}"
    return reason.name


def _signal_name(number: int) -> str:
    import signal

    if number in signal.Signals.__members__.values():
        return signal.Signals(number).name
    return signal.strsignal(number) or "unknown"
