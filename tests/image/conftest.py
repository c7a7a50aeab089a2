"""The kernel and the guest's programs, fetched once per session into the cache of the checkout."""

from pathlib import Path

import pytest

from avf.image import KernelFiles, default_cache, fetch_kernel


@pytest.fixture(scope="session")
def cache() -> Path:
    return default_cache()


@pytest.fixture(scope="session")
def kernel(cache: Path) -> KernelFiles:
    return fetch_kernel(cache)
