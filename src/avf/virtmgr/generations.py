"""What a guest may ask of its instance's generation: passed on to virtualizationservice, which remembers it."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import BinderError, ExceptionCode, RemoteException, Status, StatusError
from avf.virtmgr.errors import failure_from
from avf.virtmgr.global_service import GlobalService, GlobalServiceError

T = TypeVar("T")

log = logging.getLogger(__name__)


class InstanceGenerations:
    """Those of all instances of this user. Raises RemoteException: UNSUPPORTED_OPERATION where none are kept."""

    def __init__(self, global_service: GlobalService) -> None:
        self._global_service = global_service

    def get(self, instance_id: bytes) -> int:
        return self._call(lambda service: service.get_instance_generation(instance_id))

    def raise_to(self, instance_id: bytes, generation: int) -> None:
        self._call(lambda service: service.raise_instance_generation(instance_id, generation))

    def forget(self, instance_id: bytes) -> None:
        self._call(lambda service: service.forget_instance_generation(instance_id))

    def _call(self, operation: Callable[[IVirtualizationServiceInternal], T]) -> T:
        try:
            return self._global_service.call(operation)
        except RemoteException:
            raise
        except StatusError as e:
            if e.status != Status.UNKNOWN_TRANSACTION:
                raise failure_from(e) from e
            raise RemoteException.unsupported_operation(
                "this virtualizationservice is older than virtmgr and remembers no instances"
            ) from e
        except (GlobalServiceError, BinderError, OSError) as e:
            raise failure_from(e) from e


class OneInstance:
    """What one VM's guest may ask: of a single instance."""

    def __init__(self, generations: InstanceGenerations, cid: int) -> None:
        self._generations = generations
        self._cid = cid
        self._lock = threading.Lock()
        self._id: bytes | None = None

    def get(self, instance_id: bytes) -> int:
        self._claim(instance_id)
        try:
            return self._generations.get(instance_id)
        except RemoteException as e:
            if e.code is ExceptionCode.UNSUPPORTED_OPERATION:
                log.warning(
                    "an old instance image of the VM with CID %d would not be noticed: %s",
                    *(self._cid, e.message),
                )
            raise

    def raise_to(self, instance_id: bytes, generation: int) -> None:
        self._claim(instance_id)
        self._generations.raise_to(instance_id, generation)

    def _claim(self, instance_id: bytes) -> None:
        with self._lock:
            if self._id not in (None, instance_id):
                raise RemoteException.illegal_state("a VM has one instance")
            self._id = instance_id
