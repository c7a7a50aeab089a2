"""Docstrings as reStructuredText: they are plain text with `code`, lists and indented samples."""

import re
from functools import cache
from typing import Any

from pygments.lexers import JavaLexer  # type: ignore[import-untyped]
from sphinx.application import Sphinx

from website.faces import modules, public_names

_CODE = re.compile(r"(`[^`]+`)")
_MARKUP = re.compile(r"([\\*_|`])")
_ITEM = re.compile(r"\s*- ")


def to_rest(lines: list[str], module: str) -> list[str]:
    """Paragraphs as they are; what is indented by four more is a sample, shown letter by letter."""
    result: list[str] = []
    in_sample = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ") and not _ITEM.match(line)
        begins = indented and not in_sample and (not number or not lines[number - 1].strip())
        if begins:
            result += ["::", ""]
        in_sample = begins or (in_sample and (indented or not line.strip()))
        if not in_sample and result and result[-1].startswith("    ") and line.strip():
            result.append("")
        if _begins_list(line, result):
            result.append("")
        result.append(line if in_sample else _escaped(line, module))
    return result


def _begins_list(line: str, before: list[str]) -> bool:
    return bool(_ITEM.match(line) and before and before[-1].strip() and not _ITEM.match(before[-1]))


def _escaped(line: str, module: str) -> str:
    """A line of text in which nothing but `code` is markup."""
    result = ""
    for part in _CODE.split(line):
        if _CODE.fullmatch(part):
            before = "\\ " if result[-1:].isalnum() else ""
            result += before + _code(part.strip("`"), module)
        else:
            behind = "\\ " if part[:1].isalnum() and result else ""
            result += behind + _MARKUP.sub(r"\\\1", part)
    return result


def _code(text: str, module: str) -> str:
    """A public name of the module leads to its entry; anything else is shown as it is."""
    name = text.removesuffix("()")
    if re.fullmatch(r"[\w.]+", name) and name.partition(".")[0] in public_names(module):
        return f":py:obj:`{text} <{module}.{name}>`"
    return f"``{text}``"


@cache
def _page_of(name: str) -> str:
    """The public module on whose page an object is."""
    return max((m for m in modules() if f"{name}.".startswith(f"{m}.")), key=len)


def process(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    lines[:] = to_rest(lines, _page_of(name))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.add_lexer("aidl", JavaLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
