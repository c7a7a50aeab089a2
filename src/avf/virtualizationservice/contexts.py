"""What each VM has that is unique on this host, for as long as somebody holds its handle."""

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.errors import CidError, QuotaError
from avf.virtualizationservice.parties import UNKNOWN, Parties, Party
from avf.virtualizationservice.quotas import Budget
from avf.virtualizationservice.rounds import Rounds
from avf.virtualizationservice.tempdirs import SPARES, TempDirs, is_full

AT_ONCE = 64
"""How many files are removed while somebody waits; the rest in the background."""
MAX_COLLISIONS = 16
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
NO_UID = -1
"""Whose a directory is that cannot be looked into."""

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

    A CID is not given out anew before its directory has gone, which nobody waits for: how much there is to remove is
    up to the VM's owner. What more than a few files takes is left to `clean`, and a directory that cannot be removed,
    or not even looked into, is set aside, CID and all, until `look_again` finds it better.
    """

    def __init__(
        self,
        cids: CidAllocator,
        directories: TempDirs,
        *,
        parties: Parties | None = None,
        limit: int | None = None,
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        """`limit` is how many VMs each party but root may have; None: no party has a limit, nor a share.

        `on_work` is called when there is something to clean.
        """
        self._lock = threading.Lock()
        self._cids = cids
        self._directories = directories
        self._parties = parties or Parties()
        self._budget = None if limit is None else Budget(cids.count, limit)
        self._spares = Budget(SPARES)
        self._on_work = on_work
        self._party: dict[int, Party] = {}
        self._held: dict[int, VirtualMachineDebugInfo] = {}
        self._survivors: dict[int, VirtualMachineDebugInfo] = {}
        self._closing: dict[int, VirtualMachineDebugInfo] = {}
        """Their directories are being removed."""
        self._aside: dict[int, VirtualMachineDebugInfo] = {}
        """Their directories cannot be removed for now."""
        self._unfinished: set[int] = set()
        """Those of `_closing` that this process lacked something for, descriptors say: tried again when next asked."""
        self._said: set[int] = set()
        """Those set aside of which the log knows."""
        self._on_spares: set[int] = set()
        self._rounds: Rounds[int] = Rounds()
        self._frozen = False
        self._find_survivors()

    # For clients

    def allocate(self, requester_uid: int, requester_pid: int) -> GlobalVmContext:
        """A new context for `requester_uid`. Raises ServiceError or OSError; nothing is reserved then."""
        party = self._parties.of(requester_uid)
        self._forget_dead_survivors(party)
        with self._lock:
            self._take_share(party)
            try:
                cid, directory = self._reserve(party, requester_uid)
            except BaseException:
                self._give_share_back(party)
                raise
            info = VirtualMachineDebugInfo(
                cid=cid,
                temporary_directory=str(directory),
                requester_uid=requester_uid,
                requester_pid=requester_pid,
            )
            self._held[cid] = info
            self._party[cid] = party
        log.info(
            "CID %d is uid %d's, process %d",
            *(cid, requester_uid, requester_pid),
            extra={"party": party},
        )
        return GlobalVmContext(self, info)

    def release(self, cid: int) -> None:
        """Removes the directory of a CID, then frees the CID. No error if it is free already."""
        with self._lock:
            if self._frozen or cid not in self._held:
                return
            self._closing[cid] = self._held.pop(cid)
        self._remove(cid, AT_ONCE)

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

    # Cleaning

    @property
    def has_work(self) -> bool:
        """Whether there is something for `clean` to do."""
        with self._lock:
            return bool(self._rounds)

    def clean(self) -> bool:
        """Removes a slice of what is to be removed, of the party whose turn it is; whether there is more."""
        with self._lock:
            cid = self._rounds.take()
        if cid is not None:
            self._remove(cid)
        with self._lock:
            return bool(self._rounds)

    def look_again(self) -> None:
        """Tries what was set aside once more, and lays by what is needed on a full disk."""
        if self._budget is not None:
            self._directories.stock()
        with self._lock:
            aside = list(self._aside)
        for cid in aside:
            try:
                locked = self._directories.is_locked(cid)
            except OSError:
                continue
            with self._lock:
                info = self._aside.pop(cid)
                if locked:
                    self._survivors[cid] = info
                    continue
                self._closing[cid] = info
            self._remove(cid)

    def freeze(self) -> None:
        """The service ends, and handles with it; its VMs do not, so from now on `release` does nothing."""
        with self._lock:
            self._frozen = True

    def close(self) -> None:
        """After `freeze`: removes, as far as that is quick, what no VM holds any more."""
        with self._lock:
            self._survivors.update(self._held)
            self._held.clear()
        self._forget_dead_survivors()
        with self._lock:
            cids = list(self._closing)
        for cid in cids:
            self._remove(cid, AT_ONCE)

    # Inside

    def _find_survivors(self) -> None:
        found = self._directories.look()
        for cid, uid in found.held.items():
            self._enter(self._survivors, cid, uid)
            log.info("CID %d is still uid %d's", cid, uid, extra={"party": self._party[cid]})
        for cid, uid in found.left.items():
            self._enter(self._closing, cid, uid)
            self._rounds.add(self._party[cid], cid)
        for cid, (error, mounter) in found.closed.items():
            self._enter(self._aside, cid, NO_UID if mounter is None else mounter)
            self._say_aside(cid, error)
        if self._budget is not None:
            self._directories.stock()

    def _enter(self, table: dict[int, VirtualMachineDebugInfo], cid: int, uid: int) -> None:
        directory = Path(self._directories.root, str(cid))
        table[cid] = VirtualMachineDebugInfo(
            cid=cid, temporary_directory=str(directory), requester_uid=uid
        )
        self._party[cid] = UNKNOWN if uid == NO_UID else self._parties.of(uid)
        if self._budget is not None:
            self._budget.hold(self._party[cid])

    def _take_share(self, party: Party) -> None:
        if self._budget is None or self._budget.take(party):
            return
        count = self._budget.of(party)
        if not count:
            raise CidError("Could not find an available CID.")
        have = "has" if party.uid is not None else "have"
        raise QuotaError(f"{party} {have} {count} VMs, as many as there may be at a time")

    def _give_share_back(self, party: Party) -> None:
        if self._budget is not None:
            self._budget.give_back(party)

    def _reserve(self, party: Party, uid: int) -> tuple[int, Path]:
        """A CID and its directory. A name that is taken, though nobody knows why, is passed over."""
        in_use = {**self._held, **self._closing, **self._survivors, **self._aside}
        for _ in range(MAX_COLLISIONS):
            cid = self._cids.allocate(in_use)
            try:
                return cid, self._make_directory(cid, party, uid)
            except FileExistsError as e:
                log.warning("CID %d is not given out: %s", cid, e)
                in_use[cid] = VirtualMachineDebugInfo()
        raise QuotaError("the directories of too many CIDs are taken already")

    def _make_directory(self, cid: int, party: Party, uid: int) -> Path:
        try:
            return self._directories.create(cid, uid)
        except OSError as e:
            if self._budget is None or not is_full(e) or not self._spares.take(party):
                raise
        try:
            made = self._directories.create(cid, uid, spare=True)
        except OSError:
            self._spares.give_back(party)
            raise
        self._on_spares.add(cid)
        return made

    def _forget_dead_survivors(self, party: Party | None = None) -> None:
        """`party` waits for what little there is of its own to remove, since it may need the room."""
        with self._lock:
            unfinished, self._unfinished = self._unfinished, set()
        for cid in unfinished:
            self._queue(cid)
        with self._lock:
            dead = [cid for cid in self._survivors if self._is_dead(cid)]
            for cid in dead:
                self._closing[cid] = self._survivors.pop(cid)
        for cid in dead:
            if self._party[cid] == party:
                self._remove(cid, AT_ONCE)
            else:
                self._queue(cid)

    def _is_dead(self, cid: int) -> bool:
        try:
            return not self._directories.is_locked(cid)
        except OSError:  # it will show another time
            return False

    def _remove(self, cid: int, limit: int | None = None) -> None:
        """Some of a directory in `_closing`. What is left is queued; what cannot be removed is set aside."""
        try:
            remove = self._directories.remove
            gone = remove(cid) if limit is None else remove(cid, limit)
        except OSError as e:
            if e.errno in _SHORTAGES:
                with self._lock:
                    self._unfinished.add(cid)
                return
            with self._lock:
                self._aside[cid] = self._closing.pop(cid)
            self._say_aside(cid, e)
            return
        if gone:
            self._free(cid)
        else:
            self._queue(cid)

    def _free(self, cid: int) -> None:
        with self._lock:
            del self._closing[cid]
            party = self._party.pop(cid)
            self._said.discard(cid)
            if cid in self._on_spares:
                self._on_spares.remove(cid)
                self._spares.give_back(party)
        self._give_share_back(party)
        log.info("CID %d is free", cid, extra={"party": party})

    def _queue(self, cid: int) -> None:
        with self._lock:
            self._rounds.add(self._party[cid], cid)
        self._on_work()

    def _say_aside(self, cid: int, error: OSError) -> None:
        if cid in self._said:
            return
        self._said.add(cid)
        log.warning(
            "the directory of CID %d is set aside, and the CID with it, until it can be removed: %s",
            *(cid, error),
            extra={"party": self._party[cid]},
        )
