import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.policy.conftest import authority, bus
from tests.virtualizationservice.daemon import Host

__all__ = ["authority", "bus", "host"]


@pytest.fixture
def host(several_uids: None) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="avf-host-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Host(folder)
