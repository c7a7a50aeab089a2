"""`python -m tests [options]`: all tests, those that act as several users in a user namespace where it takes one."""

import os
import subprocess
import sys

import pytest

from tests import several_uids

PYTEST = [sys.executable, "-m", "pytest"]


def main(options: list[str]) -> int:
    """What pytest exits with: of the first run that fails."""
    if several_uids.here() or not several_uids.in_a_namespace():
        return subprocess.call([*PYTEST, *options])
    most = subprocess.call([*PYTEST, *options, "-m", "not several_uids"])
    print(f"The other tests, in a user namespace of uid {os.getuid()}'s:", flush=True)
    others = subprocess.call([*several_uids.NAMESPACE, *PYTEST, *options, "-m", "several_uids"])
    none = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return most or (0 if others in none else others)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
