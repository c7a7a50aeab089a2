import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Built once for all tests of a process."""
    folder = tmp_path_factory.mktemp("website") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "website", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    return Site(folder, done.returncode, done.stdout + done.stderr)
