"""How the memory of a guest is shared out; that the kernel keeps to it is in test_vm."""

import pytest

from avf.guest.limits import MIB, limits_for, measure, names_victim


@pytest.mark.parametrize("available", [8 * MIB, 130 * MIB, 1 << 30, 1 << 36])
def test_all_of_it_together_leaves_a_reserve(available: int) -> None:
    limits = limits_for(available, 1480)
    reserve = available - limits.memory - limits.swap
    assert min(available // 8, 16 * MIB) <= reserve <= available // 8 + 1
    assert sum(limits.files.values()) < limits.memory + limits.swap
    assert limits.files["/data"] <= 128 * MIB


@pytest.mark.parametrize(("threads", "processes"), [(500, 250), (1480, 740), (30_000, 1024)])
def test_the_kernel_has_threads_left(threads: int, processes: int) -> None:
    assert limits_for(64 * MIB, threads).processes == processes


def test_this_machine_can_be_measured() -> None:
    limits = measure()
    assert limits.memory > 0
    assert limits.processes > 0


KILLED = (
    b"<3>[    9.1] Memory cgroup out of memory: Killed process 83 (python3) total-vm:9kB, oom_score_adj:500\n"
    b"<3>[    9.2] Out of memory: Killed process 7 (x Killed process) total-vm:9kB, oom_score_adj:500\n"
)


@pytest.mark.parametrize(("pid", "is_one"), [(83, True), (7, True), (8, False), (3, False)])
def test_victims_are_known_by_their_pid(pid: int, is_one: bool) -> None:
    assert names_victim(KILLED, pid) is is_one
