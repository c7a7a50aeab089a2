"""The reference has an entry for every public name and every command, and none of them goes without words."""

import importlib
import inspect

import pytest

from avf.cli.described import described
from tests.docs.site import Site
from website.faces import modules, public_names
from website.python_api import data_docstring, listed

NAMES = [(module, name) for module in modules() for name in public_names(module)]


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


def test_every_public_name_has_an_entry(site: Site) -> None:
    entries = site.entries("py")
    assert len(NAMES) > 400
    assert [f"{module}.{name}" for module, name in NAMES if f"{module}.{name}" not in entries] == []


def test_every_command_has_a_page(site: Site) -> None:
    commands = list(described())
    assert len(commands) > 30
    for command in commands:
        page = site.page(f"reference/commands/{command.name}")
        assert f"<title>{command.path} " in page
        assert all(option.split()[0].rstrip(",") in page for option in command.options)
