"""`python -m tests [options]`: all tests, those that act as several users in a user namespace where it takes one.

A test that fails beside others is run once more by itself. Whether it then passes or not, its first failure stays in
what is printed: many tests start programs and wait for them, and a machine that is slow for a while is no defect.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests import several_uids

PYTEST = [sys.executable, "-m", "pytest"]
FAILURES = ["-o", "cache_dir=build/test-failures"]
ONCE_MORE = ["--last-failed", "--last-failed-no-failures=none", "-n", "0", "--maxfail=5"]


def main(options: list[str]) -> int:
    """What pytest exits with: of the first run that fails."""
    if several_uids.here() or not several_uids.in_a_namespace():
        return run(options)
    most = run([*options, "-m", "not several_uids"])
    print(f"The other tests, in a user namespace of uid {os.getuid()}'s:", flush=True)
    others = run([*options, "-m", "several_uids"], several_uids.NAMESPACE)
    none = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return most or (0 if others in none else others)


def run(options: Sequence[str], inside: Sequence[str] = ()) -> int:
    """`inside`: the program that starts pytest, and its arguments."""
    pytest_there = [*inside, *PYTEST, *FAILURES, *options]
    code = subprocess.call([*pytest_there, "--cache-clear"])
    if code == pytest.ExitCode.TESTS_FAILED:
        print("The tests that failed, once more and by themselves:", flush=True)
        code = subprocess.call([*pytest_there, *ONCE_MORE])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
