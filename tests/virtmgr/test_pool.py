"""How many clones wait, for which VMs, and when they are made."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from avf.aidl.vm_control import PoolRequest
from avf.runtime import WAITING_NAME
from avf.virtmgr.kind import CloneKind, kind_of_request
from avf.virtmgr.pool import MAX_CLONES, NotNow, Pool, WaitingVm
from avf.vmm import TemplateError
from tests.eventually import eventually

PLAIN = CloneKind(debug=False, memory_mib=0, match_host=False)
DEBUG = CloneKind(debug=True, memory_mib=0, match_host=False)
BIG = CloneKind(debug=False, memory_mib=900, match_host=True)


class Clone:
    """A QEMU that is ready when the test says so."""

    pid = 1

    def __init__(self, ready: bool) -> None:
        self.ready = threading.Event()
        if ready:
            self.ready.set()
        self.gone = threading.Event()
        self.held: list[bool] = []

    def is_ready(self, timeout: float) -> bool:
        if self.gone.is_set():
            raise TemplateError("it has ended")
        return self.ready.wait(timeout)

    def hold(self, held: bool) -> None:
        self.held.append(held)

    def discard(self) -> None:
        self.gone.set()

    def wait(self) -> None:
        self.gone.wait()


class Made:
    """Makes clones, and knows all that it has made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds: list[CloneKind] = []
        self.clones: list[Clone] = []
        self.closed: list[int] = []
        self.problem: Exception | None = None
        self.ready = True

    def start(self, kind: CloneKind) -> WaitingVm:
        if self.problem is not None:
            raise self.problem
        number = len(self.kinds)
        clone = Clone(self.ready)
        self.kinds.append(kind)
        self.clones.append(clone)
        directory = self.folder / str(number)
        directory.mkdir()
        (directory / WAITING_NAME).touch()

        def close() -> None:
            clone.discard()
            self.closed.append(number)

        context = SimpleNamespace(cid=number, temporary_directory=directory, close=close)
        return WaitingVm(kind, "key", context, clone)  # type: ignore[arg-type]


class Host:
    """A pool, and whether a VM of its client is starting."""

    def __init__(self, folder: Path) -> None:
        self.made = Made(folder)
        self.starting = False
        self.taken: list[WaitingVm] = []
        self.pool = Pool(self.made, lambda: self.starting)

    def waiting(self) -> int:
        return self.pool.status().waiting

    def take(self, kind: CloneKind) -> int | None:
        """The number of the clone that a VM gets."""
        vm = self.pool.take(kind)
        if vm is None:
            return None
        self.taken.append(vm)
        return vm.context.cid


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.pool.close()
    left = [clone for clone in host.made.clones if not clone.gone.is_set()]
    assert left == [vm.clone for vm in host.taken]
    for vm in host.taken:
        vm.context.close()


def settled(host: Host) -> Callable[[], bool]:
    return lambda: host.pool.status().is_settled


def test_as_many_clones_wait_as_were_asked_for(host: Host) -> None:
    host.pool.resize(3, PLAIN)
    eventually(settled(host), True)
    assert host.made.kinds == [PLAIN] * 3
    assert host.waiting() == 3


def test_one_that_was_taken_is_replaced(host: Host) -> None:
    host.pool.resize(2, PLAIN)
    eventually(settled(host), True)
    assert host.take(PLAIN) == 0
    eventually(settled(host), True)
    assert host.waiting() == 2
    assert (host.pool.status().taken, host.pool.status().missed) == (1, 0)


def test_no_clone_is_given_to_two(host: Host) -> None:
    host.pool.resize(8, PLAIN)
    eventually(settled(host), True)
    host.starting = True
    taken: list[int | None] = []
    threads = [threading.Thread(target=lambda: taken.append(host.take(PLAIN))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [number for number in taken if number is not None]
    assert sorted(given) == list(range(8))


def test_nothing_is_made_while_a_vm_starts(host: Host) -> None:
    host.pool.resize(2, PLAIN)
    eventually(settled(host), True)
    host.starting = True
    assert host.take(PLAIN) == 0
    assert host.take(PLAIN) == 1
    assert host.take(PLAIN) is None
    assert len(host.made.kinds) == 2
    host.starting = False
    eventually(settled(host), True)
    assert len(host.made.kinds) == 4


def test_one_that_is_being_made_stands_still_while_a_vm_starts(host: Host) -> None:
    host.made.ready = False
    host.pool.resize(1, PLAIN)
    eventually(lambda: len(host.made.clones), 1)
    (clone,) = host.made.clones
    host.starting = True
    eventually(lambda: clone.held, [True])
    host.starting = False
    eventually(lambda: clone.held, [True, False])
    clone.ready.set()
    eventually(host.waiting, 1)


def test_a_vm_of_another_kind_gets_none_and_the_next_one_does(host: Host) -> None:
    host.pool.resize(2, PLAIN)
    eventually(settled(host), True)
    assert host.take(DEBUG) is None
    eventually(settled(host), True)
    assert sorted(map(str, (PLAIN, DEBUG))) == sorted(
        str(host.made.kinds[number]) for number in range(3) if number not in host.made.closed
    )
    assert host.take(DEBUG) == 2
    assert host.pool.status().missed == 1


def test_there_are_never_more_than_were_asked_for(host: Host) -> None:
    host.pool.resize(3, PLAIN)
    for kind in (DEBUG, BIG, PLAIN, BIG, DEBUG, BIG, BIG):
        host.take(kind)
        eventually(settled(host), True)
        assert host.waiting() == 3
    left = [clone for clone in host.made.clones if not clone.gone.is_set()]
    assert len(left) == 3 + len(host.taken)


def test_a_clone_that_ends_while_it_waits_is_replaced(host: Host) -> None:
    host.pool.resize(1, PLAIN)
    eventually(settled(host), True)
    host.made.clones[0].gone.set()
    eventually(lambda: host.made.closed, [0])
    eventually(settled(host), True)
    assert host.take(PLAIN) == 1


def test_what_is_never_any_good_is_given_up(host: Host) -> None:
    host.made.problem = TemplateError("it does not load")
    host.pool.resize(1, PLAIN)
    eventually(settled(host), True)
    assert host.pool.status().problem == "no clone waits: it does not load"
    host.made.problem = None
    host.pool.resize(1, PLAIN)  # somebody wants it anew
    eventually(host.waiting, 1)
    assert host.pool.status().problem == ""


def test_a_clone_that_gets_stuck_does_not_keep_the_pool_from_ending(host: Host) -> None:
    host.made.ready = False
    host.pool.resize(1, PLAIN)
    eventually(lambda: len(host.made.clones), 1)


def test_what_cannot_be_now_is_tried_again(host: Host) -> None:
    host.made.problem = NotNow("100 MiB of memory are free")
    host.pool.resize(1, PLAIN)
    eventually(lambda: host.pool.status().problem, "100 MiB of memory are free")
    assert not host.pool.status().is_settled
    host.made.problem = None
    eventually(host.waiting, 1)


def test_a_smaller_pool_lets_go_of_the_rest(host: Host) -> None:
    host.pool.resize(3, PLAIN)
    eventually(settled(host), True)
    host.pool.resize(1, PLAIN)
    eventually(lambda: len(host.made.closed), 2)
    host.pool.resize(0, PLAIN)
    eventually(lambda: len(host.made.closed), 3)
    assert host.take(PLAIN) is None


def test_a_clone_counts_as_a_vm_from_when_it_is_claimed(host: Host) -> None:
    host.pool.resize(1, PLAIN)
    eventually(host.waiting, 1)
    host.take(PLAIN)
    (vm,) = host.taken
    mark = vm.context.temporary_directory / WAITING_NAME
    assert mark.exists()
    vm.claim()
    assert not mark.exists()


@pytest.mark.parametrize("count", [-1, MAX_CLONES + 1, 1 << 30])
def test_a_pool_has_a_size(host: Host, count: int) -> None:
    with pytest.raises(ValueError, match=f"count is {count}; from 0 to {MAX_CLONES}"):
        host.pool.resize(count, PLAIN)


def test_a_request_names_a_kind() -> None:
    assert kind_of_request(PoolRequest(count=1)) == PLAIN
    assert kind_of_request(PoolRequest(debug_level=1)) == DEBUG
    assert kind_of_request(PoolRequest(memory_mib=900, cpu_topology=1)) == BIG


@pytest.mark.parametrize("request_", [PoolRequest(debug_level=2), PoolRequest(cpu_topology=-1)])
def test_other_requests_are_refused(request_: PoolRequest) -> None:
    with pytest.raises(ValueError, match="there is no such"):
        kind_of_request(request_)
