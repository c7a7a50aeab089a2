"""A ParcelableHolder and what is put into it, compiled in runs that know nothing of one another."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from avf.aidlc.main import main
from avf.binder import Parcel, ParcelableHolder, ParcelReader
from avf.binder.codecs import codec_for

BASE = "package extbase; parcelable Config { int a; ParcelableHolder extension; int b; }"
EXTRA = "package extvendor; parcelable Extra { int x; union Choice { int number; String text; } }"


def compiled(root: Path, package: str, name: str, text: str) -> Any:
    file = root / "in" / package / f"{name}.aidl"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert main(["-o", str(root / "out"), str(file)]) == 0
    importlib.invalidate_caches()
    return importlib.import_module(package)


def forget(*packages: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


def test_extensions_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "out")
    extra = compiled(tmp_path, "extvendor", "Extra", EXTRA)
    base = compiled(tmp_path, "extbase", "Config", BASE)
    codec = codec_for(base.Config)
    for kind, value, name in (
        (extra.Extra, extra.Extra(x=5), "extvendor.Extra"),
        (extra.Extra.Choice, extra.Extra.Choice(text="some"), "extvendor.Extra.Choice"),
    ):
        parcel = Parcel()
        codec.write(parcel, base.Config(a=1, extension=ParcelableHolder(value), b=2))
        back = codec.read(ParcelReader(parcel.payload()))
        assert (back.a, back.b, back.extension.descriptor) == (1, 2, name)
        assert back.extension.get(kind) == value
    forget("extvendor", "extbase")


def test_a_type_does_not_depend_on_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for package, name, text in (("extbase", "Config", BASE), ("extvendor", "Extra", EXTRA)):
        Path("in", package).mkdir(parents=True)
        Path("in", package, f"{name}.aidl").write_text(text)
    assert main(["-o", "alone", "in/extvendor/Extra.aidl"]) == 0
    assert main(["-o", "both", "in"]) == 0
    assert (
        Path("alone/extvendor/_Extra.py").read_bytes()
        == Path("both/extvendor/_Extra.py").read_bytes()
    )


def test_the_bytes_of_a_held_union(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class name, the number of the member, and the member: no size."""
    monkeypatch.syspath_prepend(tmp_path / "out")
    extra = compiled(tmp_path, "extvendor", "Extra", EXTRA)
    parcel = Parcel()
    codec_for(ParcelableHolder).write(parcel, ParcelableHolder(extra.Extra.Choice(number=9)))
    name = Parcel()
    name.write_string("extvendor.Extra.Choice")
    body = name.payload() + bytes([0, 0, 0, 0, 9, 0, 0, 0])
    head = bytes([1, 0, 0, 0, 0, 0, 0, 0, len(body), 0, 0, 0])
    assert parcel.payload() == head + body
    forget("extvendor")
