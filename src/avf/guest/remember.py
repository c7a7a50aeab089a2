"""What makes an instance one over boots and updates: its image, and the generation that the host remembers of it.

An update is written down before it runs: first into the instance image, then at the host. So a host that has seen a
higher generation than the image has means that an older image was put back; a lower one, that the last update was cut
off in between (or that the host has lost its memory), and is made up for. A guest that is killed anywhere leaves an
instance that opens.
"""

import os
from collections.abc import Callable

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import BinderError, ExceptionCode, RemoteException, Status, StatusError
from avf.guest.errors import GuestError, InstanceRolledBack
from avf.guest.identity import PayloadIdentity, first_identity, followed_by, is_step
from avf.guest.instance import InstanceImage, NoRoom
from avf.guest.payload import Payload
from avf.guest.record import SALT_SIZE, Record, instance_id
from avf.guest.report import log

Verify = Callable[[PayloadIdentity | None], Payload]


def remember(
    image: InstanceImage, key: bytes, host: IVirtualMachineService, verify: Verify
) -> tuple[Payload, PayloadIdentity]:
    """The verified payload and the identity that it runs with, which is safe in `image` when this returns.

    `verify` is given what the instance knows. Raises GuestError, among them InstanceRolledBack, PayloadChanged and
    PayloadDowngraded.
    """
    saved = image.read(key)
    if saved is None:
        payload = verify(None)
        identity = first_identity(os.urandom(SALT_SIZE), payload.apks)
        image.write(key, Record(identity))
        return payload, identity
    host_knows = Generations(host, instance_id(saved.identity.salt))
    host_knows.check(saved.generation)
    payload = verify(None if saved.is_old else saved.identity)
    record = _next(saved, followed_by(saved.identity, payload.apks))
    if record != saved:
        _save(image, key, saved, record)
    else:
        image.wipe_old_record()
    host_knows.raise_to(record.generation)
    return payload, record.identity


def _next(saved: Record, identity: PayloadIdentity) -> Record:
    """What is to be remembered from now on."""
    if saved.is_old:
        return saved._replace(identity=identity, generation=1)
    step = is_step(saved.identity, identity)
    return saved._replace(identity=identity, generation=saved.generation + step)


def _save(image: InstanceImage, key: bytes, saved: Record, record: Record) -> None:
    """An instance of 2023 whose image is too small for today's record goes on with the one it has."""
    try:
        image.write(key, record)
    except NoRoom as error:
        if not saved.is_old:
            raise
        log(f"no update will be taken: {error}")


class Generations:
    """What the host remembers of one instance.

    Only from the second generation on is there something to remember: a host has nothing to do with the many instances
    that never see an update.
    """

    def __init__(self, host: IVirtualMachineService, identifier: bytes) -> None:
        self._host = host
        self._id = identifier
        self._seen: int | None = None

    def check(self, generation: int) -> None:
        """Raises InstanceRolledBack; GuestError if the host does not answer."""
        try:
            self._seen = self._host.get_instance_generation(self._id)
        except BinderError as error:
            if not _is_unsupported(error):
                raise GuestError("cannot ask the host for the instance's generation") from error
            log("the host remembers no instances: an old instance image would not be noticed")
            return
        if self._seen > generation:
            raise InstanceRolledBack(
                f"Instance image was rolled back: it is of generation {generation}, the host has seen generation "
                f"{self._seen}"
            )

    def raise_to(self, generation: int) -> None:
        """To be called before the payload runs. Raises GuestError."""
        if self._seen is None or generation <= max(self._seen, 1):
            return
        try:
            self._host.raise_instance_generation(self._id, generation)
        except BinderError as error:
            raise GuestError("cannot tell the host the instance's generation") from error


def _is_unsupported(error: BinderError) -> bool:
    if isinstance(error, StatusError):
        return error.status == Status.UNKNOWN_TRANSACTION
    return isinstance(error, RemoteException) and error.code is ExceptionCode.UNSUPPORTED_OPERATION
