"""What the agent imports decides how long a guest takes to start, so it is kept short."""

import subprocess
import sys
from pathlib import Path

import avf

HEAVY = {
    "argparse",
    "asyncio",
    "concurrent",
    "cryptography",
    "ctypes",
    "dataclasses",
    "email",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "ssl",
    "subprocess",
    "tempfile",
    "traceback",
    "urllib",
    "zipfile",
}


def imported_by(module: str) -> set[str]:
    root = str(Path(avf.__file__).parents[1])
    source = f"import sys; sys.path.insert(0, {root!r}); import {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_agent_starts_light() -> None:
    modules = imported_by("avf.guest.agent")
    assert not modules & HEAVY
    assert len([name for name in modules if not name.startswith("avf")]) < 90


def test_the_whole_guest_needs_the_standard_library_alone() -> None:
    package = Path(avf.__file__).parent / "guest"
    for path in sorted(package.glob("*.py")):
        if path.stem not in ("__init__", "boot", "crash"):
            imported_by(f"avf.guest.{path.stem}")
    imported_by("avf_payload")
