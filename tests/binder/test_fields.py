"""What annotations that are text mean, with and without Python's compiler."""

import sys
from types import ModuleType

import pytest

from avf.aidl import virtualmachineservice, vm_payload
from avf.binder import Long, fields
from avf.binder.fields import resolve

SPELLINGS = [
    "int",
    "Long",
    "Long | None",
    "str|None",
    "list[int]",
    "list[Long] | None",
    "list[Long | None]",
    "list[list[int]]",
    "dict[str, int]",
    "list[int] | list[str]",
    "Outer.Inner",
    "Outer.Inner | None",
    "None",
    "'Long'",
    "(Long)",
    "str",
]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One that has names of its own, and hides one of Python's."""
    made = ModuleType("names_of_a_test")
    outer = type("Outer", (), {"Inner": type("Inner", (), {})})
    vars(made).update({"Long": Long, "Outer": outer, "str": bytes})
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize("text", SPELLINGS)
def test_text_means_what_python_makes_of_it(module: ModuleType, text: str) -> None:
    assert resolve(text, module.__name__) == eval(text, vars(module))


@pytest.mark.parametrize("text", ["Unknown", "list[Unknown]", "Unknown | None", "list[", "[int]x"])
def test_text_that_means_nothing_is_refused_as_python_does(module: ModuleType, text: str) -> None:
    with pytest.raises((NameError, SyntaxError)) as expected:
        eval(text, vars(module))
    with pytest.raises(expected.type):
        resolve(text, module.__name__)


def test_a_guest_needs_no_compiler_for_its_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(text: str, names: object) -> object:
        raise AssertionError(f"{text} would be compiled")

    monkeypatch.setattr(fields, "eval", compile_nothing, raising=False)
    interfaces = [virtualmachineservice.IVirtualMachineService, vm_payload.IVmPayloadService]
    texts = {
        (hint, interface.__module__)
        for interface in interfaces
        for function in vars(interface).values()
        for hint in getattr(function, "__annotations__", {}).values()
    }
    assert {text for text, _ in texts} >= {"int", "bytes", "Long"}
    for text, home in texts:
        resolve(text, home)
