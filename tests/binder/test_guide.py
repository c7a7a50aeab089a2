"""The first example of docs/binder.md, run as it stands."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.eventually import eventually

GUIDE = (Path(__file__).parents[2] / "docs/binder.md").read_text()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_a_server_and_a_client(tmp_path: Path) -> None:
    contract, server, client = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[:3]
    assert len([line for line in server.splitlines() if line]) <= 20
    assert len([line for line in client.splitlines() if line]) <= 12
    for name, text in (("counter", contract), ("server", server), ("client", client)):
        (tmp_path / f"{name}.py").write_text(text)
    path = tmp_path / "sock"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "server.py", path], env=environment
    ) as serving:
        try:
            eventually(lambda: accepts(path), True)
            done = subprocess.run(
                [sys.executable, tmp_path / "client.py", path],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=30,
            )
        finally:
            serving.terminate()
    assert done.stdout == "5 7\nILLEGAL_ARGUMENT: amount is negative\n"
