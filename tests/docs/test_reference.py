"""Every public name has a docstring of its own, and every public module is in the overview."""

import importlib
import inspect

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


def test_the_overview_lists_every_public_module() -> None:
    assert sorted(listed()) == sorted(modules())
