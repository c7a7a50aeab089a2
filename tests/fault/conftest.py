"""Every test of a tiny guest runs under each accelerator."""

import pytest

from tests.accelerators import ACCELERATORS, choose
from tests.vm.conftest import app, service

__all__ = ["accelerator", "app", "pytest_generate_tests", "service"]


@pytest.fixture(autouse=True)
def accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if chosen := getattr(request, "param", None):
        choose(monkeypatch, chosen)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.fixturenames
    if {"service", "vm"} & {*names} and "app" not in names:
        metafunc.parametrize("accelerator", ACCELERATORS, indirect=True)
