"""A package's `__init__` is its face: nobody reaches past it, but for the submodules that are public themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "avf.binder.aio",
    "avf.client.aio",
    "avf.client.control",
    "avf.client.spans",
    "avf.client.store",
}

OWNERS = {"avf_payload": "guest"}
"""Packages beside `avf`, and the one of its packages each belongs to."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def reaches(path: Path) -> Iterator[str]:
    """Modules of other packages that `path` imports although they are no face."""
    inside = path.relative_to(ROOT).parts
    own = inside[2] if inside[:2] == ("src", "avf") else OWNERS.get(inside[1], "")
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "avf" or len(parts) < 3 or parts[1] in (own, "aidl") or module in PUBLIC:
            continue
        yield f"{'/'.join(inside)}: {module}"


def test_nobody_reaches_past_a_face() -> None:
    files = [
        path for folder in ("src", "bench", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 200
    assert not [found for path in files for found in reaches(path)]
