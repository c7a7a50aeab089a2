"""docs/payloads.md: its C payload serves calls, and every function is described. tests/docs runs the other samples."""

import importlib
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


def test_calls_from_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface is generated, the C side compiled and served without a machine."""
    aidl = tmp_path / "aidl/com/example/IAdder.aidl"
    aidl.parent.mkdir(parents=True)
    aidl.write_text(blocks("aidl")[0])
    (line,) = re.findall(r"^avf-aidl (.*)$", GUIDE, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "avf.aidlc", *line.split()], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(str(tmp_path / "adder"))
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
