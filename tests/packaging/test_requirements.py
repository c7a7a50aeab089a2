"""The smaller locks are parts of the one that everything is tested with."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"


def locked(name: str) -> dict[str, str]:
    """NAME==VERSION -> the hashes."""
    text = (REQUIREMENTS / f"{name}.txt").read_text().replace("\\\n", " ")
    return {line.split()[0]: line for line in text.splitlines()}


def asked_for(name: str) -> set[str]:
    """The names of the packages, without the bounds of their versions."""
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    return {named(line) for line in lines if line and not line.startswith(("#", "-"))}


def named(text: str) -> str:
    return re.split("[<>=]", text)[0]


@pytest.mark.parametrize("name", ["run", "package"])
def test_a_lock_is_a_part_of_the_large_one(name: str) -> None:
    part = locked(name)
    assert part
    assert part.items() <= locked("dev").items()


def test_what_makes_the_site_agrees_with_the_large_one() -> None:
    """Both are installed into one environment."""
    all_tools = {line.partition("==")[0]: line for line in locked("dev")}
    assert asked_for("docs") <= {line.partition("==")[0] for line in locked("docs")}
    for line in locked("docs"):
        name = line.partition("==")[0]
        assert all_tools.get(name, line) == line


def test_everything_that_the_package_depends_on_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {named(text) for text in project["dependencies"]}
    assert asked_for("package") == needed | {"dbus-fast", "pyelftools", "textual"}
    assert asked_for("run") == needed | {"hatchling", "editables"}
