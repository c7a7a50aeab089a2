"""A virtmgr that is shared, and what can be asked of a pool."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.client import (
    MAX_WARM,
    ConfigError,
    DebugLevel,
    RawConfig,
    ServiceDied,
    ServiceStartError,
    VirtualizationService,
    aio,
    connect,
)
from tests.eventually import eventually

FAKE = [sys.executable, "-m", "tests.client.fake_virtmgr"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualizationService]:
    """A virtmgr for all that look into AVF_POOL."""
    with connect(command=FAKE) as owner, owner.share(tmp_path / "socket"):
        monkeypatch.setenv("AVF_POOL", str(tmp_path / "socket"))
        yield owner


def test_a_shared_virtmgr_serves_others_than_its_client(shared: VirtualizationService) -> None:
    with connect() as other:
        assert other.pid == os.getpid()  # of who shares it
        with other.create_vm(RawConfig(name="started,died:3", kernel="/dev/null")) as vm:
            vm.start()
            assert vm.wait_for_death(20) is not None


def test_closing_it_ends_only_ones_own(shared: VirtualizationService) -> None:
    with shared.create_vm(RawConfig(name="started", kernel="/dev/null")) as vm:
        vm.start()
        connect().close()
        assert vm.death_reason is None
        assert len(shared.debug_list_vms()) == 1


def test_when_it_has_ended_its_users_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = connect(command=FAKE)
    sharing = owner.share(tmp_path / "socket")
    monkeypatch.setenv("AVF_POOL", str(tmp_path / "socket"))
    other = connect()
    sharing.close()
    owner.close()
    with pytest.raises(ServiceDied, match="has ended, with the `vm pool` that shared it"):
        other.debug_list_vms()
    other.close()
    with pytest.raises(ServiceStartError, match="where no virtmgr is shared"):
        connect()


def test_only_who_has_started_it_shares_it(shared: VirtualizationService, tmp_path: Path) -> None:
    with connect() as other, pytest.raises(ValueError, match="another's"):
        other.share(tmp_path / "other")


def test_a_socket_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_POOL", "/proc/1/mem")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ServiceStartError, match="belongs to uid 0"):
        connect()


@pytest.mark.parametrize("count", [-1, MAX_WARM + 1, "2", 1.5, True])
def test_a_number_that_cannot_be(count: object) -> None:
    with pytest.raises(ConfigError, match=f"warm must be a whole number from 0 to {MAX_WARM}"):
        connect(command=FAKE, warm=count)  # type: ignore[arg-type]


def test_a_kind_that_cannot_be() -> None:
    with connect(command=FAKE) as service:
        with pytest.raises(ConfigError, match="memory_mib"):
            service.keep_clones_waiting(1, memory_mib=0)
        with pytest.raises(ConfigError, match="debug_level"):
            service.keep_clones_waiting(1, debug_level="full")  # type: ignore[arg-type]


def test_a_pool_is_asked_for_and_told_of(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real virtmgr, which finds no guest image."""
    monkeypatch.setenv("AVF_IMAGE_DIR", str(tmp_path))
    monkeypatch.delenv("AVF_WARM", raising=False)
    with connect(warm=2) as service:
        eventually(lambda: service.pool_status().settled, True)
        status = service.pool_status()
        assert (status.wanted, status.waiting, status.taken, status.missed) == (2, 0, 0, 0)
        assert status.vmm_pids == ()
        assert str(status.problem).startswith("no clone waits: no guest image")
        service.keep_clones_waiting(5, debug_level=DebugLevel.FULL)
        assert service.pool_status().wanted == 5
        service.keep_clones_waiting(0)
        assert service.pool_status().problem is None


def test_the_same_with_asyncio() -> None:
    async def test() -> None:
        async with aio.connect(command=FAKE, warm=2) as service:
            assert (await service.pool_status()).wanted == 2
            await service.keep_clones_waiting(1, memory_mib=300)
            assert (await service.pool_status()).wanted == 1

    asyncio.run(test())
