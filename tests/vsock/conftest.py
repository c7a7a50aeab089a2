"""Devices for the vsock tests."""

from collections.abc import Iterator

import pytest

from tests.vsock import frontend


@pytest.fixture
def fresh(capfd: pytest.CaptureFixture[str]) -> Iterator[frontend.Guest]:
    """A device whose front-end has said nothing yet; no mistake of the device itself may come to light."""
    with frontend.guest() as machine:
        yield machine
        assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def guest(fresh: frontend.Guest) -> frontend.Guest:
    """A device with its queues running."""
    fresh.boot()
    return fresh
