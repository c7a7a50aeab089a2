"""Devices for the vsock tests."""

from collections.abc import Iterator

import pytest

from tests.vsock import frontend


@pytest.fixture(params=[False, True], ids=["mapped", "lent"])
def fresh(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> Iterator[frontend.Guest]:
    """A device whose front-end has said nothing yet; no mistake of the device itself may come to light.

    It maps the guest's memory, or reads and writes it through a descriptor that it was lent.
    """
    with frontend.guest(lent=request.param) as machine:
        yield machine
        assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def mapped(capfd: pytest.CaptureFixture[str]) -> Iterator[frontend.Guest]:
    """A device whose front-end has said nothing yet, and which maps the guest's memory."""
    with frontend.guest() as machine:
        yield machine
        assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def guest(fresh: frontend.Guest) -> frontend.Guest:
    """A device with its queues running."""
    fresh.boot()
    return fresh
