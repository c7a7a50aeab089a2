import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.vmm import user_templates
from tests.conftest import is_warm, make_templates
from tests.docs.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def templates(image_dir: Path) -> Iterator[None]:
    """Of guests, so that the many virtual machines of the samples begin as clones, which costs a third of a boot."""
    if is_warm():
        yield  # image_dir has made them
        return
    make_templates()
    with user_templates().lock():
        yield


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Built once for all tests of a process."""
    folder = tmp_path_factory.mktemp("website") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "website", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    return Site(folder, done.returncode, done.stdout + done.stderr)
