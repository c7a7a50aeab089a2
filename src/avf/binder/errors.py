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
    """The transaction failed before, beside or instead of the method's own answer.

    Its text for people has the status, the method that was called if there was one, what is known, and what helps.
    """

    def __init__(self, status: int, text: str = "") -> None:
        self.status = int(status)
        self.text = text
        """What is known beside the status."""
        self.method = ""
        """The method that was called: `IFoo.bar`."""
        self.is_explained = False
        """Whether the text leaves nothing to be guessed, so that there is no remedy to be told."""
        super().__init__(status, text)

    def add_method(self, method: str) -> None:
        """Notes the method whose call failed, unless one is known."""
        self.method = self.method or method

    @property
    def remedy(self) -> str:
        """What helps, in words; empty if that depends."""
        return _REMEDIES.get(self.status, "") if self.method and not self.is_explained else ""

    def __str__(self) -> str:
        name = _STATUS_NAMES.get(self.status, f"status {self.status}")
        method = "" if self.text.startswith(self.method) else self.method
        text = ": ".join(part for part in (name, method, self.text) if part)
        return f"{text}; {self.remedy}" if self.remedy else text


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
        """The caller may not do that."""
        return cls(ExceptionCode.SECURITY, message)

    @classmethod
    def bad_parcelable(cls, message: str) -> "RemoteException":
        """What was sent cannot be read."""
        return cls(ExceptionCode.BAD_PARCELABLE, message)

    @classmethod
    def illegal_argument(cls, message: str) -> "RemoteException":
        """An argument has a value that it cannot have."""
        return cls(ExceptionCode.ILLEGAL_ARGUMENT, message)

    @classmethod
    def null_pointer(cls, message: str) -> "RemoteException":
        """null stands where it is not allowed."""
        return cls(ExceptionCode.NULL_POINTER, message)

    @classmethod
    def illegal_state(cls, message: str) -> "RemoteException":
        """That cannot be done in this state."""
        return cls(ExceptionCode.ILLEGAL_STATE, message)

    @classmethod
    def unsupported_operation(cls, message: str) -> "RemoteException":
        """That is not done here."""
        return cls(ExceptionCode.UNSUPPORTED_OPERATION, message)

    @classmethod
    def service_specific_error(cls, error: int, message: str = "") -> "RemoteException":
        """An error with a number of the service's own."""
        return cls(ExceptionCode.SERVICE_SPECIFIC, message, error)


class ProtocolError(BinderError):
    """The peer sent what RPC Binder does not allow."""


_ANSWERS: tuple[tuple[type[Exception], ExceptionCode], ...] = (
    (PermissionError, ExceptionCode.SECURITY),
    (NotImplementedError, ExceptionCode.UNSUPPORTED_OPERATION),
    (ValueError, ExceptionCode.ILLEGAL_ARGUMENT),
)
"""Exceptions of methods that reach the caller with their text, as those of the same meaning do from Java."""
_MAX_MESSAGE = 2000
"""Characters of the message that an exception of a method, or the causes of one, become."""


def answer_to(error: BaseException, method: str) -> RemoteException:
    """What the caller of a method is told of an exception that the method raised."""
    code = next((code for kind, code in _ANSWERS if isinstance(error, kind)), None)
    if isinstance(error, OSError) and error.errno is not None:
        code = None  # the system's: it names what is on the server's disk
    if code is None and type(error) is RuntimeError:  # its subclasses are the interpreter's
        code = ExceptionCode.ILLEGAL_STATE
    if code is None:
        return failure_of(error, method)
    answer = RemoteException(code, str(error)[:_MAX_MESSAGE])
    answer.__cause__ = error.__cause__
    return with_causes(answer)


def failure_of(error: BaseException, method: str) -> RemoteException:
    """What the caller is told of an exception that is the server's own affair."""
    text = f"{method} failed with {type(error).__name__}; the server's log has more"
    return RemoteException(ExceptionCode.ILLEGAL_STATE, text)


def with_causes(error: RemoteException) -> RemoteException:
    """The same with the causes it was raised `from` in its message, as far as they are not there already."""
    message = error.message
    cause, seen = error.__cause__, {id(error)}
    while cause is not None and id(cause) not in seen and len(message) < _MAX_MESSAGE:
        seen.add(id(cause))
        text = _told(cause)
        if text not in message:
            message = f"{message}: {text}" if message else text
        cause = cause.__cause__
    if message == error.message:
        return error
    return RemoteException(error.code, message[:_MAX_MESSAGE], error.service_specific)


def _told(cause: BaseException) -> str:
    """What a caller is told of a cause: of a system's error what it is, not which file."""
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


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
_REMEDIES: dict[int, str] = {
    Status.BAD_TYPE: "the object is of another interface, which remote_descriptor tells",
    Status.BAD_VALUE: "the two sides may be made of different .aidl files",
    Status.DEAD_OBJECT: "the object was released, or its session is over: connect again",
    Status.FAILED_TRANSACTION: "the call or its answer may be larger than a session carries, or too many calls"
    " are being made within one another",
    Status.FDS_NOT_ALLOWED: "descriptors need fd_mode=FdMode.UNIX in connect, FdMode.UNIX among the server's fd_modes,"
    " and a unix socket",
    Status.NOT_ENOUGH_DATA: "the two sides may be made of different .aidl files",
    Status.NO_MEMORY: "this peer holds as much as the other side's Budget allows it",
    Status.UNEXPECTED_NULL: "a value is null where the other side allows none",
    Status.UNKNOWN_ERROR: "the other side's log has more",
    Status.UNKNOWN_TRANSACTION: "the other side does not have this method: it may be of an older version",
    Status.WOULD_BLOCK: "the client takes calls while it makes one, and at any time if it connects with"
    " incoming_threads=1",
}
"""What helps against a status that a call failed with."""
