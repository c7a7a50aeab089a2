"""Lines as ruff's formatter would break them."""

import re
from collections.abc import Iterable

WIDTH = 100
PROSE_WIDTH = 120


def fill(indent: int, head: str, items: list[str], tail: str) -> list[str]:
    """A call or a parameter list: on one line, else its items on one, else one item per line."""
    margin = " " * indent
    joined = ", ".join(items)
    one = f"{margin}{head}{joined}{tail}"
    if len(one) <= WIDTH or not items:
        return [one]
    inner = " " * (indent + 4)
    if len(inner) + len(joined) <= WIDTH:
        return [margin + head, inner + joined, margin + tail]
    return [margin + head, *(f"{inner}{item}," for item in items), margin + tail]


def signature(indent: int, head: str, parameters: list[str], returned: str, end: str) -> list[str]:
    """A function's first line, or lines: its parameters are broken first, then the tuple it returns."""
    tail = f") -> {returned}{end}"
    margin = " " * indent
    one = f"{margin}{head}{', '.join(parameters)}{tail}"
    if len(one) <= WIDTH:
        return [one]
    if len(parameters) == 1:
        lines = [margin + head, f"{margin}    {parameters[0]},", margin + tail]
    else:
        lines = fill(indent, head, parameters, tail)
    if len(lines[-1]) > WIDTH and returned.startswith("tuple["):
        lines[-1:] = fill(indent, ") -> tuple[", _items(returned[6:-1]), f"]{end}")
    return lines if max(map(len, lines)) <= WIDTH else held(one)


def _items(text: str) -> list[str]:
    """Between the commas that are in no brackets."""
    found = []
    depth = start = 0
    for at, char in enumerate(text):
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()]


def held(line: str) -> list[str]:
    """A line that the formatter leaves as it is, however long."""
    return [line if len(line) <= WIDTH else f"{line}  # fmt: skip"]


def stack(indent: int, head: str, items: list[str], tail: str) -> list[str]:
    """A list or an import: on one line, else one item per line."""
    margin = " " * indent
    one = f"{margin}{head}{', '.join(items)}{tail}"
    if len(one) <= WIDTH or not items:
        return [one]
    inner = " " * (indent + 4)
    return [margin + head, *(f"{inner}{item}," for item in items), margin + tail]


def import_lines(module: str, names: Iterable[str], indent: int = 0, tail: str = "") -> list[str]:
    """`from MODULE import NAMES`, sorted as isort does: constants, classes, the rest; then a comment in `tail`."""
    ordered = sorted(set(names), key=_import_key)
    margin = " " * indent
    one = f"{margin}from {module} import {', '.join(ordered)}"
    if len(one) <= WIDTH:
        return [one + tail]
    inner = " " * (indent + 4)
    head = f"{margin}from {module} import ({tail}"
    return [head, *(f"{inner}{name}," for name in ordered), f"{margin})"]


def all_lines(names: Iterable[str]) -> list[str]:
    """`__all__`, sorted as ruff does: by case and then by name."""
    ordered = sorted(set(names), key=_all_key)
    return stack(0, "__all__ = [", [f'"{name}"' for name in ordered], "]")


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Numbers in names count as numbers."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _rank(name: str) -> int:
    if len(name) > 1 and name.isupper():
        return 0
    return 1 if name[:1].isupper() else 2


def module_key(name: str) -> tuple[list[tuple[int, int, str]], list[tuple[int, int, str]]]:
    """Sorts modules as isort does."""
    return _natural(name.lower()), _natural(name)


def _import_key(name: str) -> tuple[int, list[tuple[int, int, str]], list[tuple[int, int, str]]]:
    plain = name.split(" as ")[0]
    return _rank(plain), _natural(plain.lower()), _natural(plain)


def _all_key(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    return _rank(name), _natural(name)
