"""Several named objects at one server, and objects that hand out connections to another one.

The root object of such a server can be called from any language:

    package avf.binder;
    interface IServices {
        @nullable IBinder find(String name);
        String[] names();
    }
"""

import socket
from collections.abc import Callable, Mapping

from .contract import Interface, method
from .errors import RemoteException, StatusError
from .fd import ParcelFileDescriptor
from .objects import IBinder
from .peer import Peer, calling_peer
from .transport import Connector, check_connector
from .wanted import check_type

Service = Interface | Callable[[Peer], Interface | None]


class IServices(Interface, descriptor="avf.binder.IServices"):
    """The root object of a server of several services."""

    @method(1)
    def find(self, name: str) -> IBinder | None:
        """The object of that name; None if there is none for the caller."""
        raise NotImplementedError

    @method(2)
    def names(self) -> list[str]:
        """The names there are, in order, also of objects that the caller does not get."""
        raise NotImplementedError


class Services(IServices):
    """Serves objects by name. A function of the peer instead of an object is called for each `find`."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = dict(services)

    def find(self, name: str) -> IBinder | None:
        found = self._services.get(name)
        if found is None or isinstance(found, Interface):
            return found
        return found(calling_peer())

    def names(self) -> list[str]:
        return sorted(self._services)


class IAccessor(Interface, descriptor="android.os.IAccessor"):
    """Gives connections to a service that is served elsewhere (frameworks/native, libs/binder/aidl/android/os)."""

    NOT_FOUND = 0
    FAILED_TO_CREATE_SOCKET = 1
    FAILED_TO_CONNECT = 2
    NO_ACCESS = 3
    UNSUPPORTED_FAMILY = 4

    @method(1)
    def add_connection(self) -> ParcelFileDescriptor:
        """A connected socket, for one connection of a session. Fails with one of the numbers above."""
        raise NotImplementedError

    @method(2)
    def get_instance_name(self) -> str:
        """The name of the service."""
        raise NotImplementedError


class Accessor(IAccessor):
    """Hands out connections that a connector makes, so its callers need neither the address nor the right to it."""

    def __init__(self, name: str, connector: Connector) -> None:
        check_type("name", name, str)
        check_connector(connector)
        self._name = name
        self._connector = connector

    def add_connection(self) -> ParcelFileDescriptor:
        try:
            sock = self._connector()
        except OSError as error:
            code = self.NO_ACCESS if isinstance(error, PermissionError) else self.FAILED_TO_CONNECT
            raise RemoteException.service_specific_error(code, str(error)) from None
        if not isinstance(sock, socket.socket):
            sock.close()
            text = "a connection with TLS cannot be handed on"
            raise RemoteException.service_specific_error(self.UNSUPPORTED_FAMILY, text)
        return ParcelFileDescriptor(sock.detach())

    def get_instance_name(self) -> str:
        return self._name


def accessed(accessor: IAccessor) -> Connector:
    """A connector for `connect` that gets its sockets from an accessor, in a session of FdMode.UNIX."""
    check_type("accessor", accessor, IAccessor)

    def connect() -> socket.socket:
        try:
            with accessor.add_connection() as given:
                return socket.socket(fileno=given.detach())
        except (RemoteException, StatusError) as error:
            raise ConnectionRefusedError(f"the accessor gives no connection: {error}") from error

    return connect
