"""How much a peer may make this process hold, and how often it may make it work.

Connections count for a *party*: a user, a guest. A party has at most what `Limits` allow it, and never more than what
is still free for the others, so that however many parties take all they can, a newcomer finds something left. An
eighth of the whole is kept for privileged parties, which have no bound of their own.

No call is made and no container is made with a lock held here: the garbage collector, and with it the end of a proxy or
a session, then cannot come in between.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Hashable

from avf.named import NamedTuple

from .errors import ProtocolError, note
from .wire import MAX_FDS


class Limits(NamedTuple):
    """Amounts held at a time."""

    connections: int
    """Open ones, from the first byte of the handshake on. Each has a thread and up to 256 KiB of memory."""
    descriptors: int
    """File descriptors that came in calls, until the call has been served."""
    memory: int
    """Bytes of parts of frames, frames read ahead, frames the peer does not take, oneway calls that wait, objects and
    death links."""


class Rate(NamedTuple):
    """`burst` at once, and `per_second` in the long run."""

    burst: float
    per_second: float


PARTY_LIMITS = Limits(connections=256, descriptors=1024, memory=32 << 20)
"""What one party may hold of a budget, unless the budget says otherwise."""
TOTAL_LIMITS = Limits(connections=1024, descriptors=4096, memory=128 << 20)
"""What all parties together may hold of a budget, unless the budget says otherwise."""
ARRIVALS = Rate(burst=512, per_second=128)
REFUSALS = Rate(burst=256, per_second=2048)

CONNECTIONS, DESCRIPTORS, MEMORY = range(3)
_NAMES = ("connections", "file descriptors", "bytes of memory")
_REPORTS = Rate(burst=10, per_second=0.1)
"""Errors printed, for each party."""
_RESERVE = 8
"""A privileged party's share: one in so many."""
_PASSING = 32
"""What lasts leaves a party one in so many of its limit for what is under way: part of a frame, a frame read ahead."""
_ACCOUNTS = 256
"""Accounts kept before unused ones are looked for."""


class OverBudget(ProtocolError):
    """The party has as much as it may have."""


class Bucket:
    """A token bucket."""

    __slots__ = ("_burst", "_left", "_lock", "_per_second", "_since")

    def __init__(self, rate: Rate, now: float) -> None:
        self._burst, self._per_second = float(rate.burst), rate.per_second
        self._left = self._burst
        self._since = now
        self._lock = threading.Lock()

    def take(self, now: float) -> bool:
        """Whether there is a token; it is taken."""
        with self._lock:
            if now > self._since:
                self._left += (now - self._since) * self._per_second
                self._since = now
            if self._left > self._burst:
                self._left = self._burst
            taken = self._left >= 1
            if taken:
                self._left -= 1
        return taken

    @property
    def wait(self) -> float:
        """Seconds until there is a token; at least a millisecond."""
        return max(0.001, (1 - self._left) / self._per_second)

    def full_at(self, now: float) -> bool:
        return self._left + (now - self._since) * self._per_second >= self._burst


class Account:
    """What one party holds, and its buckets."""

    __slots__ = (
        "_arrivals",
        "_calls",
        "_reports",
        "_unreported",
        "_used",
        "budget",
        "party",
        "privileged",
    )

    def __init__(self, budget: "Budget", party: Hashable) -> None:
        self.budget = budget
        self.party = party
        self.privileged = budget.privileged(party)
        self._used = [0, 0, 0]
        now = budget.clock()
        free = self.privileged
        self._calls = Bucket(budget.calls, now) if budget.calls and not free else None
        self._arrivals = Bucket(budget.arrivals, now) if not free else None
        self._reports = Bucket(_REPORTS, now)
        self._unreported = 0

    @property
    def used(self) -> Limits:
        return Limits(*self._used)

    def take(self, what: int, amount: int, *, lasting: bool = False) -> None:
        """Counts `amount` more as held. Raises OverBudget, and counts nothing, if it may not be.

        What is `lasting` leaves something free, so that a party that has all it may have of it can still send and be
        answered.
        """
        budget, own = self.budget, self._used
        used, total, limit = budget._used, budget.total[what], budget.party[what]
        privileged, reserve = self.privileged, total // _RESERVE
        spare = limit // _PASSING if lasting else 0
        with budget._lock:
            free = total - used[what]
            if privileged:
                fits = amount + spare <= free
            else:
                wanted = own[what] + amount + spare
                fits = wanted <= limit and wanted <= free - reserve
            if fits:
                own[what] += amount
                used[what] += amount
        if not fits:
            raise OverBudget(
                f"party {self.party!r} holds {own[what]} {_NAMES[what]}"
                f" and may not have {amount} more"
            )

    def give(self, what: int, amount: int) -> None:
        """Counts `amount` as given back."""
        budget, own, used = self.budget, self._used, self.budget._used
        with budget._lock:
            own[what] -= amount
            used[what] -= amount

    @property
    def paced(self) -> bool:
        return self._calls is not None

    def call(self) -> float:
        """0 if one more frame may be read now, else the seconds to wait."""
        bucket = self._calls
        if bucket is None or bucket.take(self.budget.clock()):
            return 0.0
        return bucket.wait

    def arrival(self) -> float:
        """0 if one more connection may be served now, else the seconds to wait."""
        bucket = self._arrivals
        if bucket is None or bucket.take(self.budget.clock()):
            return 0.0
        return bucket.wait

    def may_report(self) -> bool:
        """Whether one more error that the party caused may be printed now."""
        if not self._reports.take(self.budget.clock()):
            self._unreported += 1
            return False
        if self._unreported:
            note(f"{self._unreported} more errors of party {self.party!r} were not printed")
            self._unreported = 0
        return True

    def unused(self, now: float) -> bool:
        """Whether nothing would be forgotten with it."""
        buckets = (self._calls, self._arrivals, self._reports)
        full = all(bucket is None or bucket.full_at(now) for bucket in buckets)
        return full and not any(self._used)


def user(party: Hashable) -> bool:
    """Whether a party is root or the user this process runs as."""
    return type(party) is int and party in (0, os.getuid())


def nobody(party: Hashable) -> bool:
    """False for every party: nobody is exempt from the limits of a budget."""
    return False


class Budget:
    """The bounds of a process over its peers; one may be shared by several servers.

    `party` bounds each party but the privileged ones, `total` all together, in which an eighth is for the privileged.
    `calls` is how often a party may call: beyond it its connections are not read for a while, and nothing is lost.
    `arrivals` is how often its connections are served, `refusals` how often a server turns connections away.
    `privileged` says which parties are: by default the uids 0 and the process's own. At most half of the files that
    the process may have open become connections, and a quarter descriptors received.
    """

    def __init__(
        self,
        *,
        party: Limits = PARTY_LIMITS,
        total: Limits = TOTAL_LIMITS,
        calls: Rate | None = None,
        arrivals: Rate = ARRIVALS,
        refusals: Rate = REFUSALS,
        privileged: Callable[[Hashable], bool] = user,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.party = party
        self._wanted = total
        self.total = _within_open_files(total)
        self.calls = calls
        self.arrivals = arrivals
        self.refusals = refusals
        self.privileged = privileged
        self.clock = clock
        self._lock = threading.Lock()
        self._used = [0, 0, 0]
        self._admitting = threading.Lock()
        self._accounts: dict[Hashable, Account] = {}
        self._sweep_at = _ACCOUNTS

    @property
    def used(self) -> Limits:
        """What all parties hold together."""
        return Limits(*self._used)

    def accounts(self) -> list[Account]:
        """Those of parties that hold something, or did lately."""
        with self._admitting:
            return list(self._accounts.values())

    def admit(self, party: Hashable) -> Account:
        """The account of a party, with one connection more. Raises OverBudget."""
        with self._admitting:
            account = self._accounts.get(party)
            if account is None:
                account = self._new_account(party)
            account.take(CONNECTIONS, 1)
            return account

    def _new_account(self, party: Hashable) -> Account:
        if len(self._accounts) >= self._sweep_at:
            now = self.clock()
            kept = {name: a for name, a in self._accounts.items() if not a.unused(now)}
            self._accounts = kept
            self._sweep_at = max(_ACCOUNTS, 2 * len(kept))
        self.total = _within_open_files(self._wanted)  # which may have been changed meanwhile
        account = self._accounts[party] = Account(self, party)
        return account


def _within_open_files(total: Limits) -> Limits:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return total
    descriptors = max(files // 4, 2 * MAX_FDS)
    return total._replace(
        connections=min(total.connections, files // 2),
        descriptors=min(total.descriptors, descriptors),
    )
