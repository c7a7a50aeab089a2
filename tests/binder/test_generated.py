"""What avf-aidl makes of holders, inout arguments and versions, at work."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avf.aidlc.main import main
from avf.binder import ParcelableHolder

from .conftest import Serve

AIDL = {
    "Extra.aidl": "parcelable Extra { int number; }",
    "Open.aidl": "parcelable Open { int before; ParcelableHolder extra; int[2][2] grid; }",
    "IOpen.aidl": """
        interface IOpen {
            Open echo(in Open value);
            int grow(inout Open value, inout @nullable String[] names, out byte[] data);
        }""",
}


@pytest.fixture
def generated(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "in/heldtest").mkdir(parents=True)
    for name, text in AIDL.items():
        (tmp_path / "in/heldtest" / name).write_text(f"package heldtest;\n{text}\n")
    arguments = ["--version", "4", "--hash", "abc", "-o", str(tmp_path / "out")]
    assert main([*arguments, str(tmp_path / "in")]) == 0
    sys.path.insert(0, str(tmp_path / "out"))
    yield importlib.import_module("heldtest")
    sys.path.remove(str(tmp_path / "out"))
    del sys.modules["heldtest"]


def test_generated_contracts(generated: Any, serve: Serve) -> None:
    class Opened(generated.IOpen):  # type: ignore[misc]
        def echo(self, value: Any) -> Any:
            return value

        def grow(self, value: Any, names: Any, data_length: int) -> Any:
            value.before += 1
            return 7, value, names, bytes(data_length)

    root: Any = serve(root=Opened()).connect().get_root(generated.IOpen)
    value = generated.Open(before=1)
    assert value.grid == [[0, 0], [0, 0]]
    held = ParcelableHolder(generated.Extra(number=5), descriptor="heldtest.Extra")
    value.extra = held
    back = root.echo(value)
    assert back.extra.get(generated.Extra, descriptor="heldtest.Extra").number == 5
    assert generated.Open().extra == ParcelableHolder()
    grown = root.grow(value, ["a", None], 2)
    assert (grown[0], grown[1].before, grown[2:]) == (7, 2, (["a", None], b"\0\0"))
    assert root.grow(value, None, 0)[2:] == (None, b"")
    assert root.get_interface_version() == 4
    assert root.get_interface_hash() == "abc"
