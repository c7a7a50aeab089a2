"""What the service remembers of instances: only upwards, on disk, each user's own, so much and no more."""

import os
import stat
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import ExceptionCode, RemoteException
from avf.virtualizationservice import generations
from avf.virtualizationservice.errors import QuotaError, ServiceError
from avf.virtualizationservice.generations import GenerationStore
from avf.virtualizationservice.options import parse
from avf.virtualizationservice.parties import ROOT, UNKNOWN, Party, Standing
from tests.virtualizationservice.daemon import ALICE, BOB, OTHER_STRANGER, STRANGER, Host

FIRST, SECOND = bytes(32), b"\x01" * 32
ALICES = Party(Standing.KNOWN, ALICE)
BOBS = Party(Standing.KNOWN, BOB)


@pytest.fixture
def store(tmp_path: Path) -> GenerationStore:
    return GenerationStore(tmp_path / "instances", per_party=4)


def number(index: int) -> bytes:
    return index.to_bytes(32, "big")


def test_a_generation_only_goes_up(store: GenerationStore) -> None:
    assert store.get(ALICES, ALICE, FIRST) == 0
    for raised, then in ((2, 2), (5, 5), (3, 5), (5, 5), (1 << 40, 1 << 40), (1, 1 << 40)):
        store.raise_to(ALICES, ALICE, FIRST, raised)
        assert store.get(ALICES, ALICE, FIRST) == then
    assert store.get(ALICES, ALICE, SECOND) == 0


def test_another_service_goes_on_with_it(store: GenerationStore) -> None:
    store.raise_to(ALICES, ALICE, FIRST, 7)
    (path,) = (store.directory / str(ALICE)).iterdir()
    assert path.read_text() == "7\n"
    path.with_name(f"{path.name}.new").write_text("9")  # a write that a kill has cut off
    again = GenerationStore(store.directory)
    assert again.get(ALICES, ALICE, FIRST) == 7
    assert list((store.directory / str(ALICE)).iterdir()) == [path]
    again.forget(ALICES, ALICE, FIRST)
    again.forget(ALICES, ALICE, FIRST)
    assert again.get(ALICES, ALICE, FIRST) == 0
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_uids_do_not_see_each_others(store: GenerationStore) -> None:
    store.raise_to(ALICES, ALICE, FIRST, 7)
    store.raise_to(UNKNOWN, STRANGER, FIRST, 8)
    assert store.get(BOBS, BOB, FIRST) == 0
    assert store.get(ALICES, 100_000, FIRST) == 0
    assert store.get(UNKNOWN, OTHER_STRANGER, FIRST) == 0
    store.forget(UNKNOWN, OTHER_STRANGER, FIRST)
    assert store.get(UNKNOWN, STRANGER, FIRST) == 8


def test_the_instance_that_was_used_longest_ago_makes_way(store: GenerationStore) -> None:
    for index in range(4):
        store.raise_to(ALICES, ALICE, number(index), 2)
    for path in (store.directory / str(ALICE)).iterdir():
        os.utime(path, (0, 0))
    for index in (0, 2, 3):
        assert store.get(ALICES, ALICE, number(index)) == 2
    store.raise_to(BOBS, BOB, number(1), 2)
    store.raise_to(ALICES, ALICE, number(4), 2)
    assert [store.get(ALICES, ALICE, number(index)) for index in range(5)] == [2, 0, 2, 2, 2]
    assert store.get(BOBS, BOB, number(1)) == 2
    assert len(list((store.directory / str(ALICE)).iterdir())) == 4
    again = GenerationStore(store.directory, per_party=4)
    again.raise_to(ALICES, ALICE, number(5), 2)
    assert len(list((store.directory / str(ALICE)).iterdir())) == 4


def test_all_parties_together_have_a_bound_and_root_a_share(tmp_path: Path) -> None:
    store = GenerationStore(tmp_path / "instances", total=32)
    parties = [Party(Standing.KNOWN, uid) for uid in range(1000, 1100)]
    served = 0
    for party in parties:
        for index in range(10):
            try:
                store.raise_to(party, party.uid or 0, number(index), 2)
            except QuotaError:
                break
        else:
            served += 1
    stored = sum(1 for path in store.directory.rglob("*") if path.is_file())
    assert stored <= 30
    assert served >= 1
    store.raise_to(ROOT, 0, FIRST, 2)
    assert store.get(ROOT, 0, FIRST) == 2


def test_what_is_refused(store: GenerationStore) -> None:
    for instance_id in (b"", bytes(31), bytes(33), b"../" * 10 + b"xx"):
        if len(instance_id) == 32:
            store.raise_to(ALICES, ALICE, instance_id, 2)
            assert [path.name for path in (store.directory / str(ALICE)).iterdir()] == [
                f"{ALICE}-{instance_id.hex()}"
            ]
            continue
        for call in (
            lambda i=instance_id: store.get(ALICES, ALICE, i),
            lambda i=instance_id: store.raise_to(ALICES, ALICE, i, 2),
            lambda i=instance_id: store.forget(ALICES, ALICE, i),
        ):
            with pytest.raises(ServiceError, match="an instance ID has 32 bytes"):
                call()
    for generation in (0, -1, 1 << 63):
        with pytest.raises(ServiceError, match="out of range"):
            store.raise_to(ALICES, ALICE, FIRST, generation)


def test_who_raises_too_often_is_refused(store: GenerationStore) -> None:
    with pytest.raises(QuotaError, match="too many instances"):
        for generation in range(1, 100 * generations.BURST):
            store.raise_to(ALICES, ALICE, FIRST, generation)
    store.raise_to(BOBS, BOB, FIRST, 2)


@pytest.mark.parametrize("content", ["", "seven\n", "0\n", "-1", "9" * 30, "\x00" * 4096, "٣"])
def test_a_damaged_file_is_named_and_can_be_forgotten(store: GenerationStore, content: str) -> None:
    store.raise_to(ALICES, ALICE, FIRST, 7)
    (path,) = (store.directory / str(ALICE)).iterdir()
    path.write_text(content)
    with pytest.raises(ServiceError, match=f"{path} is damaged"):
        store.get(ALICES, ALICE, FIRST)
    store.forget(ALICES, ALICE, FIRST)
    store.raise_to(ALICES, ALICE, FIRST, 3)
    assert store.get(ALICES, ALICE, FIRST) == 3


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "instances"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="alone"):
        GenerationStore(folder)


@pytest.mark.parametrize("home", ["xdg", "home"])
def test_a_users_own_service_keeps_them_where_they_outlive_a_reboot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    expected = tmp_path / "home" / ".local" / "state" / "avf"
    if home == "xdg":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        expected = tmp_path / "state" / "avf"
    assert parse(["--user"]).state == expected
    assert parse(["--system", "--directory", str(tmp_path)]).state is None


def test_every_caller_has_its_own_and_needs_a_permission(host: Host) -> None:
    with host.daemon(), host.client(ALICE) as alice, host.client(BOB) as bob:
        alice.raise_instance_generation(FIRST, 3)
        assert alice.get_instance_generation(FIRST) == 3
        assert bob.get_instance_generation(FIRST) == 0
        bob.forget_instance_generation(FIRST)
        assert alice.get_instance_generation(FIRST) == 3
        for wrong in (bytes(31), bytes(33)):
            assert refused(alice, wrong) is ExceptionCode.ILLEGAL_STATE
        host.set_policy(f"[MANAGE_VIRTUAL_MACHINE]\nuids = [{BOB}]\n")
        assert refused(alice, FIRST) is ExceptionCode.SECURITY
    with host.daemon(), host.client(BOB) as bob:
        assert bob.get_instance_generation(FIRST) == 0
    host.set_policy(f"[MANAGE_VIRTUAL_MACHINE]\nuids = [{ALICE}]\n")
    with host.daemon(), host.client(ALICE) as alice:
        assert alice.get_instance_generation(FIRST) == 3
        alice.forget_instance_generation(FIRST)
        assert alice.get_instance_generation(FIRST) == 0


def refused(service: IVirtualizationServiceInternal, instance_id: bytes) -> ExceptionCode:
    with pytest.raises(RemoteException) as caught:
        service.get_instance_generation(instance_id)
    return caught.value.code


def test_a_service_without_a_place_for_them_serves_all_the_same(host: Host) -> None:
    host.directory.mkdir(mode=0o755)
    place = host.directory / "instances"
    place.mkdir()
    place.chmod(0o777)
    with host.daemon(), host.client(ALICE) as alice:
        assert refused(alice, FIRST) is ExceptionCode.UNSUPPORTED_OPERATION
        assert alice.allocate_global_vm_context(1).get_cid()
    assert "old images of them are not noticed" in host.log
