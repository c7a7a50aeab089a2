"""The peer meets itself; foreign peers are run by whoever has one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .echo_peer import CASES


@pytest.mark.parametrize("max_threads", [1, 4])
def test_all_cases(tmp_path: Path, max_threads: int) -> None:
    path = str(tmp_path / "sock")
    options = ["--unix", path, "--max-threads", str(max_threads)]
    peer = [sys.executable, "-m", "tests.interop.echo_peer"]
    environment = dict(os.environ, PYTHONWARNINGS="error")
    with subprocess.Popen(
        [*peer, "serve", *options], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == f"serving {path}\n"
            done = subprocess.run(
                [*peer, "call", *options, "--die"],
                stdout=subprocess.PIPE,
                text=True,
                timeout=120,
                env=environment,
            )
            assert server.wait(10) == 7
        finally:
            server.kill()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if not line["ok"]] == []
    assert len(lines) == len(CASES) + 1
    assert done.returncode == 0
