"""RPC Binder, Android's inter-process calls over sockets, wire compatible with libbinder (protocol versions 0, 1 and,
experimentally, 2).

Declare interfaces (`Interface`, `method`) and values (`Parcelable`, `Union`, `Enum`), serve objects with a `Server`,
and reach them with `connect`. See `errors` for what can go wrong.
"""

from .budget import PARTY_LIMITS, TOTAL_LIMITS, Budget, Limits, Rate, nobody
from .client import Session, connect, interface_cast
from .codecs import Byte, Char, FileDescriptor, FixedSize, Float, Length, Long
from .contract import AsyncInterface, Interface, method, prepare_calls
from .enums import Enum
from .errors import (
    BinderError,
    DeadObjectError,
    ExceptionCode,
    ProtocolError,
    RemoteException,
    Status,
    StatusError,
)
from .fd import ParcelFileDescriptor
from .fields import field
from .holder import ParcelableHolder
from .objects import BinderClass, IBinder
from .parcel import Parcel, ParcelReader
from .parcelables import CustomParcelable, Parcelable
from .peer import Peer, calling_peer
from .predefined import (
    dump,
    is_alive,
    link_to_death,
    ping,
    release,
    remote_descriptor,
    unlink_to_death,
)
from .raw import RawService
from .server import Server
from .services import Accessor, IAccessor, IServices, accessed
from .transport import Address, Connector, bootstrap, hybrid_vsock, inet, unix, unix_abstract, vsock
from .unions import Union
from .wire import FdMode, Stability

__all__ = [
    "PARTY_LIMITS",
    "TOTAL_LIMITS",
    "Accessor",
    "Address",
    "AsyncInterface",
    "BinderClass",
    "BinderError",
    "Budget",
    "Byte",
    "Char",
    "Connector",
    "CustomParcelable",
    "DeadObjectError",
    "Enum",
    "ExceptionCode",
    "FdMode",
    "FileDescriptor",
    "FixedSize",
    "Float",
    "IAccessor",
    "IBinder",
    "IServices",
    "Interface",
    "Length",
    "Limits",
    "Long",
    "Parcel",
    "ParcelFileDescriptor",
    "ParcelReader",
    "Parcelable",
    "ParcelableHolder",
    "Peer",
    "ProtocolError",
    "Rate",
    "RawService",
    "RemoteException",
    "Server",
    "Session",
    "Stability",
    "Status",
    "StatusError",
    "Union",
    "accessed",
    "bootstrap",
    "calling_peer",
    "connect",
    "dump",
    "field",
    "hybrid_vsock",
    "inet",
    "interface_cast",
    "is_alive",
    "link_to_death",
    "method",
    "nobody",
    "ping",
    "prepare_calls",
    "release",
    "remote_descriptor",
    "unix",
    "unix_abstract",
    "unlink_to_death",
    "vsock",
]
