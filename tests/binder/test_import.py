"""The package starts fast: it runs in guests under emulation."""

import subprocess
import sys

HEAVY = {
    "asyncio",
    "concurrent",
    "dataclasses",
    "email",
    "hashlib",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "random",
    "ssl",
    "subprocess",
    "tempfile",
}

PROGRAM = """
import sys
before = set(sys.modules)
import avf.binder
print(*(set(sys.modules) - before))
"""


def test_nothing_heavy_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, check=True
    )
    imported = set(done.stdout.split())
    assert "avf.binder.session" in imported
    assert imported & HEAVY == set()
    foreign = {name for name in imported if not name.startswith("avf")}
    assert {name.partition(".")[0] for name in foreign} <= set(sys.stdlib_module_names)
