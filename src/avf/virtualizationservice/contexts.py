"""What each VM has that is unique on this host, for as long as somebody holds its handle."""

import logging
import threading
from pathlib import Path

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.errors import QuotaError
from avf.virtualizationservice.tempdirs import TempDirs

log = logging.getLogger(__name__)


class GlobalVmContext(IGlobalVmContext):
    """The handle: the CID and the directory are reserved until its last holder lets go."""

    def __init__(self, table: "ContextTable", info: VirtualMachineDebugInfo) -> None:
        self._table = table
        self.info = info

    def get_cid(self) -> int:
        return self.info.cid

    def get_temporary_directory(self) -> str:
        return self.info.temporary_directory

    def on_released(self) -> None:
        self._table.release(self.info.cid)


class ContextTable:
    """All contexts. Those of a former service process live on as survivors: their VM holds its directory's lock.

    A CID is not given out anew before its directory has gone, which nobody waits for under the lock: how much there is
    to remove is up to the VM's owner.
    """

    def __init__(
        self, cids: CidAllocator, directories: TempDirs, *, limit_per_uid: int | None = None
    ) -> None:
        """Removes directories without a VM. Raises OSError if that fails."""
        self._lock = threading.Lock()
        self._cids = cids
        self._directories = directories
        self._limit = limit_per_uid
        self._held: dict[int, VirtualMachineDebugInfo] = {}
        self._closing: dict[int, VirtualMachineDebugInfo] = {}
        self._unfinished: set[int] = set()
        """Those of `_closing` whose directory could not be removed."""
        self._frozen = False
        self._survivors = {
            cid: self._survivor(cid, uid) for cid, uid in directories.survivors().items()
        }
        for cid, info in self._survivors.items():
            log.info("CID %d is still uid %d's", cid, info.requester_uid)

    def allocate(self, requester_uid: int, requester_pid: int) -> GlobalVmContext:
        """A new context for `requester_uid`. Raises ServiceError or OSError; nothing is reserved then."""
        self._forget_dead_survivors()
        with self._lock:
            self._check_limit(requester_uid)
            cid = self._cids.allocate({**self._held, **self._closing, **self._survivors})
            directory = self._directories.create(cid, requester_uid)
            info = VirtualMachineDebugInfo(
                cid=cid,
                temporary_directory=str(directory),
                requester_uid=requester_uid,
                requester_pid=requester_pid,
            )
            self._held[cid] = info
        log.info("CID %d is uid %d's, process %d", cid, requester_uid, requester_pid)
        return GlobalVmContext(self, info)

    def release(self, cid: int) -> None:
        """Removes the directory of a CID, then frees the CID. No error if it is free already."""
        with self._lock:
            if self._frozen or cid not in self._held:
                return
            self._closing[cid] = self._held.pop(cid)
        self._finish(cid)

    def freeze(self) -> None:
        """The service ends, and handles with it; its VMs do not, so from now on `release` does nothing."""
        with self._lock:
            self._frozen = True

    def live(self) -> list[VirtualMachineDebugInfo]:
        """Every VM, by CID. A survivor's process is not known: 0."""
        self._forget_dead_survivors()
        with self._lock:
            found = [*self._held.values(), *self._survivors.values()]
        return sorted(found, key=lambda info: info.cid)

    def find(self, cid: int) -> VirtualMachineDebugInfo | None:
        """The VM with that CID, also while its directory is being removed."""
        with self._lock:
            return self._held.get(cid) or self._survivors.get(cid) or self._closing.get(cid)

    def _check_limit(self, uid: int) -> None:
        if self._limit is None or uid == 0:
            return
        tables = (self._held, self._closing, self._survivors)
        count = sum(info.requester_uid == uid for table in tables for info in table.values())
        if count >= self._limit:
            raise QuotaError(f"uid {uid} has {count} VMs, as many as a user may have at a time")

    def _survivor(self, cid: int, uid: int) -> VirtualMachineDebugInfo:
        directory = Path(self._directories.root, str(cid))
        return VirtualMachineDebugInfo(
            cid=cid, temporary_directory=str(directory), requester_uid=uid
        )

    def _forget_dead_survivors(self) -> None:
        self._finish_rest()
        with self._lock:
            dead = [cid for cid in self._survivors if self._is_dead(cid)]
            for cid in dead:
                self._closing[cid] = self._survivors.pop(cid)
        for cid in dead:
            self._finish(cid)

    def _is_dead(self, cid: int) -> bool:
        try:
            return not self._directories.is_locked(cid)
        except OSError as e:  # it will show another time
            log.warning("whether CID %d is still in use cannot be seen: %s", cid, e)
            return False

    def _finish(self, cid: int) -> None:
        try:
            self._directories.remove(cid)
        except OSError as e:
            log.warning("directory of CID %d stays behind for now: %s", cid, e)
            with self._lock:
                self._unfinished.add(cid)
            return
        with self._lock:
            del self._closing[cid]
        log.info("CID %d is free", cid)

    def _finish_rest(self) -> None:
        """Tries again what has failed, for want of descriptors say."""
        with self._lock:
            cids, self._unfinished = self._unfinished, set()
        for cid in cids:
            self._finish(cid)
