"""Every public name, method and property has a docstring, and every public module is in the overview."""

import importlib
import inspect
from collections.abc import Iterator
from functools import cached_property

import pytest

from website.faces import modules, public_names
from website.python_api import data_docstring, listed


def has_words(module: str, name: str) -> bool:
    """Its own: neither its base's nor those that a decorator makes of its signature."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        text = vars(value).get("__doc__")
        return bool(text) and not text.startswith(f"{value.__name__}(")
    if inspect.isroutine(value):
        return bool(value.__doc__)
    return bool(data_docstring(importlib.import_module(module), name))


@pytest.mark.parametrize("module", modules())
def test_public_names_have_docstrings(module: str) -> None:
    assert importlib.import_module(module).__doc__
    assert [name for name in public_names(module) if not has_words(module, name)] == []


def methods_without_words(cls: type) -> Iterator[str]:
    """Public methods and properties that the project defines and `help(cls)` shows without a word.

    What a method has inherited from the one that it overrides counts.
    """
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if name.startswith("_") or owner is None or not owner.__module__.startswith("avf"):
            continue
        item = vars(owner)[name]
        is_member = inspect.isroutine(item) or isinstance(item, (property, cached_property))
        if is_member and not inspect.getdoc(getattr(cls, name)):
            yield f"{cls.__name__}.{name}"


@pytest.mark.parametrize("module", modules())
def test_public_methods_have_docstrings(module: str) -> None:
    face = importlib.import_module(module)
    classes = [c for name in public_names(module) if inspect.isclass(c := getattr(face, name))]
    assert [lacking for cls in classes for lacking in methods_without_words(cls)] == []


class Described:
    def kept(self) -> None:
        """Has words."""


class Lacking(Described):
    def kept(self) -> None: ...
    def bare(self) -> None: ...
    @classmethod
    def made(cls) -> None: ...
    @staticmethod
    def free() -> None: ...
    @property
    def plain(self) -> None: ...
    @cached_property
    def lazy(self) -> None: ...


def test_a_method_without_a_docstring_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Described, Lacking):
        monkeypatch.setattr(cls, "__module__", "avf.somewhere")
    found = {name.partition(".")[2] for name in methods_without_words(Lacking)}
    assert found == {"bare", "made", "free", "plain", "lazy"}


def test_the_overview_lists_every_public_module() -> None:
    assert sorted(listed()) == sorted(modules())
