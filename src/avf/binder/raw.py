"""Objects whose calls are served as bytes, without a contract that says what is in them."""

from .contract import Contract, Interface
from .errors import Status, StatusError
from .parcel import Parcel, ParcelReader


class RawService(Interface):
    """A local object that gets every call of its interface's methods as bytes and answers it with bytes.

    class Adder(RawService, descriptor="com.example.IAdder"):
        def transact(self, code: int, arguments: bytes) -> bytes: ...

    The interface token is checked, and what every object answers (ping, descriptor…) is answered. Binder objects and
    descriptors are not carried: what stands for them among the arguments has no meaning.
    """

    def transact(self, code: int, arguments: bytes) -> bytes:
        """Answers the method with transaction code `code`: status header, result, `out` arguments.

        What a oneway method answers is not sent. StatusError fails the transaction, RemoteException becomes the reply.
        """
        raise StatusError(Status.UNKNOWN_TRANSACTION, f"code {code}")


def serve(target: RawService, code: int, reader: ParcelReader, reply: Parcel) -> None:
    """Serves a call. Raises StatusError, RemoteException, or whatever the object does."""
    contract: Contract | None = target._contract
    token = contract.token if contract is not None else b""
    start = reader.pos
    if not token or reader.buf[start : start + len(token)] != token:
        raise StatusError(Status.BAD_TYPE, f"{type(target).__name__}: wrong interface token")
    method = contract.methods().get(code) if contract is not None else None
    if method is not None:
        method.check_permission(target)
    arguments = bytes(reader.buf[start + len(token) : reader.end])
    reader.close_untaken()
    reply.data += target.transact(code, arguments)
