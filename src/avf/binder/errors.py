"""What can go wrong with a binder call.


BinderError
 +-- StatusError          the transaction itself failed; `status` is a status_t (see Status)
 |    +-- DeadObjectError the session is over: whether the call was carried out is unknown
 +-- RemoteException      the method ran and answered with an AIDL exception
 +-- ProtocolError        the peer does not speak RPC Binder; its session is ended

Wrong argument types are TypeError or ValueError, raised before anything is sent. Errors of a connector (no such socket,
connection refused, timed out) stay the OSErrors they are.
"""

import enum
import sys

from avf.printable import printable, printable_lines


class Status(enum.IntEnum):
    """status_t values that libbinder gives a meaning to."""

    OK = 0
    UNKNOWN_ERROR = -2147483648
    BAD_TYPE = -2147483647
    FAILED_TRANSACTION = -2147483646
    FDS_NOT_ALLOWED = -2147483641
    UNEXPECTED_NULL = -2147483640
    PERMISSION_DENIED = -1
    NAME_NOT_FOUND = -2
    WOULD_BLOCK = -11
    NO_MEMORY = -12
    ALREADY_EXISTS = -17
    NO_INIT = -19
    BAD_VALUE = -22
    DEAD_OBJECT = -32
    INVALID_OPERATION = -38
    NOT_ENOUGH_DATA = -61
    UNKNOWN_TRANSACTION = -74
    BAD_INDEX = -75
    TIMED_OUT = -110


class ExceptionCode(enum.IntEnum):
    """The exceptions an AIDL method may answer with."""

    NONE = 0
    SECURITY = -1
    BAD_PARCELABLE = -2
    ILLEGAL_ARGUMENT = -3
    NULL_POINTER = -4
    ILLEGAL_STATE = -5
    NETWORK_MAIN_THREAD = -6
    UNSUPPORTED_OPERATION = -7
    SERVICE_SPECIFIC = -8
    PARCELABLE = -9

    @classmethod
    def _missing_(cls, value: object) -> "ExceptionCode | None":
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNRECOGNISED_{value}"
        member._value_ = value
        return member


class BinderError(Exception):
    """Base of all errors of this package."""


class StatusError(BinderError):
    """The transaction failed before, beside or instead of the method's own answer."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = int(status)
        self.text = text
        super().__init__(status, text)

    def __str__(self) -> str:
        name = _STATUS_NAMES.get(self.status, f"status {self.status}")
        return f"{name}: {self.text}" if self.text else name


class DeadObjectError(StatusError):
    """The session has ended, so the object cannot be reached any more."""

    def __init__(self, text: str = "") -> None:
        super().__init__(Status.DEAD_OBJECT, text)


class RemoteException(BinderError):
    """An AIDL exception: raised by a method's implementation, and again at the caller."""

    def __init__(
        self, code: ExceptionCode | int, message: str = "", service_specific: int = 0
    ) -> None:
        self.code = ExceptionCode(code)
        self.message = message
        self.service_specific = service_specific
        super().__init__(code, message, service_specific)

    def __str__(self) -> str:
        code = self.code.name
        if self.code == ExceptionCode.SERVICE_SPECIFIC:
            code += f"({self.service_specific})"
        return f"{code}: {self.message}" if self.message else code

    @classmethod
    def security(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.SECURITY, message)

    @classmethod
    def bad_parcelable(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.BAD_PARCELABLE, message)

    @classmethod
    def illegal_argument(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.ILLEGAL_ARGUMENT, message)

    @classmethod
    def null_pointer(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.NULL_POINTER, message)

    @classmethod
    def illegal_state(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.ILLEGAL_STATE, message)

    @classmethod
    def unsupported_operation(cls, message: str) -> "RemoteException":
        return cls(ExceptionCode.UNSUPPORTED_OPERATION, message)

    @classmethod
    def service_specific_error(cls, error: int, message: str = "") -> "RemoteException":
        return cls(ExceptionCode.SERVICE_SPECIFIC, message, error)


class ProtocolError(BinderError):
    """The peer sent what RPC Binder does not allow."""


def status_error(status: int, text: str = "") -> StatusError:
    """The error for a status_t that came over the wire."""
    return DeadObjectError(text) if status == Status.DEAD_OBJECT else StatusError(status, text)


def report(error: BaseException) -> None:
    """Tells people of an error nobody can catch, as the interpreter tells of uncaught ones."""
    if len(text := str(error)) > _MAX_REPORT or printable_lines(text) != text:
        note(f"{type(error).__name__}: {text}")
    else:
        sys.excepthook(type(error), error, error.__traceback__)


def note(text: str) -> None:
    """Tells people of something that was to be expected, in one line on standard error."""
    line = printable(text[:_MAX_REPORT].replace("\n", " "))
    try:
        print(f"avf.binder: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody is there to be told


_MAX_REPORT = 2000
"""Characters of an error that are printed: a peer may have chosen them."""
_STATUS_NAMES = {member.value: member.name for member in Status}
