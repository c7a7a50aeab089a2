"""Whose a uid is, and what each party gets of what all share."""

import itertools
import logging
import os
import pwd
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from avf.binder import Peer
from avf.policy import PolicyFile
from avf.virtualizationservice import parties as parties_module
from avf.virtualizationservice.parties import (
    ROOT,
    SUBORDINATES_OF_ROOT,
    UNKNOWN,
    Parties,
    Party,
    Standing,
    party_named,
)
from avf.virtualizationservice.quotas import Budget
from avf.virtualizationservice.rounds import Rounds
from avf.virtualizationservice.subuid import MAX_SUBUID_BYTES, SubuidFile, parse

DAEMON = pwd.getpwnam("daemon").pw_uid
RANGES = """
# a comment
daemon:100000:65536
64001:200000:10
root:300000:65536
100005:400000:10
"""


def known(uid: int) -> Party:
    return Party(Standing.KNOWN, uid)


def made(folder: Path, text: str = RANGES, policy: PolicyFile | None = None) -> Parties:
    (folder / "subuid").write_text(text)
    return Parties(policy, subuid=folder / "subuid")


@pytest.mark.parametrize(
    ("uid", "party"),
    [
        (0, ROOT),
        (DAEMON, known(DAEMON)),
        (100000, known(DAEMON)),
        (165535, known(DAEMON)),
        (165536, UNKNOWN),
        (99999, UNKNOWN),
        (200009, known(64001)),
        (64001, known(64001)),  # without an account, but root gave it a range
        (64002, UNKNOWN),
        (300000, SUBORDINATES_OF_ROOT),
        (400003, known(DAEMON)),  # a range of a uid in a range
        (65534, UNKNOWN),  # nobody, which any uid without a name here looks like
        (None, UNKNOWN),
        ((1 << 32) - 1, UNKNOWN),
    ],
)
def test_whose_a_uid_is(tmp_path: Path, uid: int | None, party: Party) -> None:
    assert made(tmp_path).of(uid) == party
    assert made(tmp_path)(Peer(uid=uid)) == party


def test_whom_the_policy_names_is_known(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[DUMP]\nuids = [64002]\n[DEBUG_VIRTUAL_MACHINE]\neveryone = true\n")
    parties = made(tmp_path, policy=PolicyFile(system=True, file=file))
    assert parties.of(64002) == known(64002)
    assert parties.of(64003) == UNKNOWN


def test_a_changed_file_counts(tmp_path: Path) -> None:
    parties = made(tmp_path)
    assert parties.of(500000) == UNKNOWN
    made(tmp_path, f"{RANGES}daemon:500000:1\n")
    assert parties.of(500000) == known(DAEMON)
    (tmp_path / "subuid").unlink()
    assert parties.of(500000) == UNKNOWN


def test_ranges_that_name_each_other(tmp_path: Path) -> None:
    parties = made(tmp_path, "100:101:1\n101:100:1\n")
    assert {parties.of(100), parties.of(101)} <= {known(100), known(101)}


@pytest.mark.parametrize(
    "line",
    ["x", "x:1", ":1:1", "x:-1:5", "x:1:0", "x:1:y", "x:1:1:1", "x:4294967295:2", "x:²:1", "\0:1"],
)
def test_bad_lines_are_skipped(line: str, caplog: pytest.LogCaptureFixture) -> None:
    text = f"a:10:5\n{line}\nb:20:5\n"
    assert [r.owner for r in parse(Path("subuid"), text)] == ["a", "b"]
    assert "subuid: line 2 is not NAME:START:COUNT; it is skipped" in caplog.text


def test_many_bad_lines_are_few_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert parse(Path("subuid"), "x\n" * 1000) == []
    assert len(caplog.records) == 6
    assert "995 more lines are skipped" in caplog.text


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8))
def test_ranges_do_not_overlap(given_ranges: list[tuple[int, int]]) -> None:
    text = "".join(f"u{n}:{start}:{count}\n" for n, (start, count) in enumerate(given_ranges))
    ranges = parse(Path("subuid"), text)
    for before, after in itertools.pairwise(ranges):
        assert before.end <= after.start
    covered = {uid for r in ranges for uid in range(r.start, r.end)}
    assert covered == {u for s, c in given_ranges for u in range(s, s + c)} - {0}


def _link(path: Path) -> None:
    path.symlink_to("nowhere")


def _of_somebody(path: Path) -> None:
    path.write_text(RANGES)
    os.chown(path, DAEMON, -1)


def _open_to_all(path: Path) -> None:
    path.write_text(RANGES)
    path.chmod(0o666)


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, _link, _of_somebody, _open_to_all])
def test_a_file_that_cannot_be_trusted_is_none(tmp_path: Path, make: object) -> None:
    make(tmp_path / "subuid")  # type: ignore[operator]
    assert SubuidFile(tmp_path / "subuid").owner_of(100000) is None


def test_a_large_file_is_read_up_to_a_point(tmp_path: Path) -> None:
    line = "daemon:1000000:1\n"
    (tmp_path / "subuid").write_text(line * (2 * MAX_SUBUID_BYTES // len(line)) + "daemon:7:1\n")
    file = SubuidFile(tmp_path / "subuid")
    assert file.owner_of(1000000) == "daemon"
    assert file.owner_of(7) is None


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_accounts_are_looked_up_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def getpwuid(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        raise KeyError

    monkeypatch.setattr(parties_module.pwd, "getpwuid", getpwuid)
    clock = Clock()
    parties = Parties(subuid=tmp_path / "none", clock=clock)
    for _ in range(3):
        assert parties.of(64009) == UNKNOWN
    assert asked == [64009]
    clock.now += parties_module.CACHE_SECONDS
    parties.of(64009)
    assert asked == [64009, 64009]
    for uid in range(70_000, 70_000 + 2 * parties_module.CACHE_MAX):
        parties.of(uid)
    assert len(parties._accounts) == parties_module.CACHE_MAX


def test_uids_of_a_range_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are many, and the directory service may be slow."""
    parties = made(tmp_path, "1:100000:65536\n")

    def getpwuid(uid: int) -> pwd.struct_passwd:
        raise AssertionError

    monkeypatch.setattr(parties_module.pwd, "getpwuid", getpwuid)
    assert {parties.of(uid) for uid in range(100000, 101000)} == {known(1)}


@pytest.mark.parametrize("party", [ROOT, UNKNOWN, SUBORDINATES_OF_ROOT, known(1000)])
def test_names_of_parties(party: Party) -> None:
    assert party_named(party.name) == party
    assert "/" not in party.name


@pytest.mark.parametrize("name", ["", "x", "-1", "01", "²", "notes"])
def test_no_names_of_parties(name: str) -> None:
    assert party_named(name) is None


def take_all(budget: Budget, party: Party) -> int:
    count = 0
    while budget.take(party):
        count += 1
    return count


class TestBudget:
    def test_shares(self) -> None:
        """Nobody else's greed touches what is kept for known users and for root."""
        budget = Budget(160)
        assert take_all(budget, UNKNOWN) == 55  # half of 160 - 10 - 40
        users = [take_all(budget, known(uid)) for uid in range(1, 100)]
        assert users[0] == 48  # half of 150 - 55, rounded up
        assert all(users[:5])
        assert sum(users) == 150 - 55
        assert take_all(budget, ROOT) == 10

    def test_whoever_comes_next_gets_something(self) -> None:
        budget = Budget(1600)
        for uid in range(1, 9):
            assert take_all(budget, known(uid)) > 0
        assert budget.take(known(99))

    def test_a_party_s_limit(self) -> None:
        budget = Budget(1000, 3)
        assert take_all(budget, known(1)) == 3
        assert take_all(budget, UNKNOWN) == 3
        assert take_all(budget, ROOT) == 994

    def test_a_limit_for_root_too(self) -> None:
        assert take_all(Budget(1000, 3, bounds_root=True), ROOT) == 3

    def test_what_is_held_counts(self) -> None:
        budget = Budget(100, 5)
        budget.hold(known(1), 7)
        assert not budget.take(known(1))
        budget.give_back(known(1), 3)
        assert budget.of(known(1)) == 4
        assert budget.take(known(1))

    @given(
        st.integers(0, 200),
        st.lists(
            st.tuples(
                st.sampled_from([ROOT, UNKNOWN, SUBORDINATES_OF_ROOT, known(1), known(2)]),
                st.integers(1, 9),
                st.booleans(),
            ),
            max_size=60,
        ),
    )
    def test_never_more_than_there_is(
        self, total: int, steps: list[tuple[Party, int, bool]]
    ) -> None:
        budget = Budget(total)
        taken: dict[Party, int] = {}
        for party, amount, give in steps:
            have = taken.get(party, 0)
            if give and have >= amount:
                budget.give_back(party, amount)
                taken[party] = have - amount
            elif not give and budget.take(party, amount):
                taken[party] = have + amount
            others = sum(n for p, n in taken.items() if p != ROOT)
            assert sum(taken.values()) <= total
            assert others <= max(0, total - max(1, total // 16))
            assert taken.get(UNKNOWN, 0) <= max(0, total - max(1, total // 16) - total // 4)
            assert all(budget.of(p) == n for p, n in taken.items())


def test_work_goes_round_by_party() -> None:
    rounds: Rounds[int] = Rounds()
    for item in range(4):
        rounds.add(known(1), item)
    rounds.add(known(2), 10)
    assert [rounds.take() for _ in range(6)] == [0, 10, 1, 2, 3, None]
    assert len(rounds) == 0


def test_nothing_is_logged_of_a_good_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made(tmp_path).of(100000)
    assert caplog.text == ""
