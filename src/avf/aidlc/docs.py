"""Documentation comments to docstrings."""

import re
import textwrap
from collections.abc import Mapping

from .layout import PROSE_WIDTH
from .names import snake_case

_TAG = re.compile(r"^@(\w+)\s*(.*)$", re.DOTALL)
_INLINE = re.compile(r"\{@(\w++)\s*+([^{}]*+)\}")
_HTML = re.compile(r"</?(?:code|b|i|em|tt|strong|ul|ol|pre|a|dl|dt|dd|h\d)(?:\s[^<>]*)?>", re.I)
_ITEM = re.compile(r"^(?:[-*+•]|\d+[.)])\s")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_WORD = re.compile(r"\b[a-z][a-z0-9]*[A-Z][A-Za-z0-9]*\b")
_NO_WORDS: Mapping[str, str] = {}
_LICENSE = ("Copyright", "Licensed under", "SPDX-License")
_SILENT = ("hide", "inheritDoc", "removed", "since", "author", "version")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&quot;": '"', "&amp;": "&"}


def paragraphs(comment: str | None) -> list[str]:
    """What a `/** */` comment says: paragraphs of one line each, list items starting with "- "."""
    if comment is None or any(word in comment for word in _LICENSE):
        return []
    lines = [line.strip() for line in _CONTROL.sub("", comment[3:-2]).splitlines()]
    text = "\n".join(re.sub(r"^\*+ ?", "", line) for line in lines)
    text = re.sub(r"<(?:p|br)\s*/?>|</p>", "\n\n", text, flags=re.I)
    text = re.sub(r"<li>", "\n- ", re.sub(r"</li>", "\n", text, flags=re.I), flags=re.I)
    text = _INLINE.sub(_inline, _HTML.sub("", text))
    for entity, char in _ENTITIES.items():
        text = text.replace(entity, char)
    return [told for part in _split(text) if (told := _told(part))]


def _inline(match: re.Match[str]) -> str:
    """`{@code x}` and `{@link A#b text}`"""
    tag, inner = match.group(1), " ".join(match.group(2).split())
    if tag in ("code", "literal", "value"):
        return f"`{inner}`"
    target, _, label = inner.partition(" ")
    return label or target.replace("#", ".").lstrip(".")


def _split(text: str) -> list[str]:
    """At empty lines, before list items and before tags."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if not line.strip():
            found.append([])
            continue
        if _ITEM.match(line.strip()) or line.strip().startswith("@"):
            found.append([])
        found[-1].append(line.strip())
    return [" ".join(" ".join(part).split()) for part in found if part]


def _told(part: str) -> str:
    match = _TAG.match(part)
    if match is None:
        return re.sub(r"^[*+•]\s", "- ", part)
    tag, rest = match.groups()
    if tag in ("param", "throws", "exception"):
        name, _, about = rest.partition(" ")
        about = about.lstrip("- :")
        if tag == "param":
            return f"{snake_case(name)}: {about}" if about else ""
        return f"Throws {name}{': ' if about else ''}{about}"
    if tag in ("return", "returns"):
        return f"Returns {rest}" if rest else ""
    if tag == "deprecated":
        return f"Deprecated: {rest}" if rest else "Deprecated."
    if tag == "see":
        return f"See {rest.replace('#', '.').lstrip('.')}" if rest else ""
    if tag in _SILENT or not rest:
        return ""
    return rest if tag in ("brief", "details") else f"{tag.capitalize()}: {rest}"


def docstring(parts: list[str], indent: int, words: Mapping[str, str] = _NO_WORDS) -> list[str]:
    """The lines of a docstring, indented; none for no text. `words` are called otherwise in Python."""
    if not parts:
        return []
    margin = " " * indent
    text = [_escaped(_WORD.sub(lambda m: words.get(m[0], m[0]), part)) for part in parts]
    quotes = '""" ' if text[0].startswith('"') else '"""'
    lines: list[str] = []
    for number, part in enumerate(text):
        item = bool(_ITEM.match(part))
        if number and not (item and _ITEM.match(text[number - 1])):
            lines.append("")
        lines += textwrap.wrap(
            part,
            PROSE_WIDTH if len(text) > 1 else PROSE_WIDTH - 3,
            initial_indent=margin if number else margin + quotes,
            subsequent_indent=f"{margin}  " if item else margin,
            break_long_words=False,
            break_on_hyphens=False,
        )
    if len(lines) == 1:
        return [f'{lines[0]}"""']
    return [*lines, f'{margin}"""']


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return text[:-1] + '\\"' if text.endswith('"') else text
