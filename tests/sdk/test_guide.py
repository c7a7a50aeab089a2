"""The examples of docs/payloads.md, run as they stand."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import avf_payload
from avf.binder import connect, unix
from avf.sdk import INCLUDE
from tests.guest.native_host import native_host

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/payloads.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.vm
def test_from_nothing_to_a_running_payload(
    tmp_path: Path, runtime_dir: Path, image_dir: Path
) -> None:
    (tmp_path / "hello.c").write_text(blocks("c")[0])
    (tmp_path / "pack.py").write_text(blocks("python")[0])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", blocks("sh")[0]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert "Hello from /mnt/apk" in lines
    assert lines[-1] == "VM ended: Shutdown"


def test_calls_from_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface is generated, the C side compiled and served without a machine."""
    aidl = tmp_path / "aidl/com/example/IAdder.aidl"
    aidl.parent.mkdir(parents=True)
    aidl.write_text(blocks("aidl")[0])
    command = next(re.finditer(r"`avf-aidl (.*?)`", GUIDE))[1].split()
    subprocess.run([sys.executable, "-m", "avf.aidlc", *command], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "interfaces", raising=False)
    interfaces = importlib.import_module("interfaces")
    source = tmp_path / "adder.c"
    announcing = '#include <stdio.h>\n#define AVmPayload_notifyPayloadReady() (puts("serving"), fflush(stdout))\n'
    text = blocks("c")[1].replace('#include "avf_rpc.h"\n', f'#include "avf_rpc.h"\n{announcing}')
    source.write_text(text)
    with (
        native_host(tmp_path) as host,
        host.serving(host.compile(source)),
        connect(unix(tmp_path / "5000")) as session,
    ):
        assert session.get_root(interfaces.IAdder).add(2, 3) == 5
    monkeypatch.delitem(sys.modules, "interfaces")


def test_every_function_is_described() -> None:
    headers = "".join(path.read_text() for path in INCLUDE.glob("*.h"))
    code = re.sub(r"/\*.*?\*/", "", headers, flags=re.DOTALL)
    names = set(re.findall(r"\b((?:AVm|Avf)\w+?_\w+)\(", code)) - {"AVmPayload_main_t"}
    assert len(names) > 40
    assert [name for name in sorted(names) + avf_payload.__all__ if name not in GUIDE] == []
