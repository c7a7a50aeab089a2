"""The reference of the commands: a page for each, of the text that the manual pages are made of."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from avf.cli.described import ENVIRONMENT, STATUS, Described, described

_CODE = re.compile(r"(`[^`|]+`)")
_MARKUP = re.compile(r"([\\`*_<>\[\]|{}#$])")


def pages() -> dict[str, str]:
    """The site's path of each page -> its text in Markdown."""
    return {str(_path(command.name)): "\n".join(_page(command)) + "\n" for command in described()}


def _path(name: str) -> PurePosixPath:
    return PurePosixPath("reference/commands", f"{name}.md")


def _page(command: Described) -> Iterator[str]:
    yield from (f"# `{command.path}`", "", f"{_plain(command.summary)}.", "")
    yield from _code("text", f"{command.path} {command.usage}")
    for paragraph in command.paragraphs[1:]:
        yield from _paragraph(paragraph)
    if command.options:
        yield from ("## Options", "", *_table("option", command.options))
    if command.commands:
        linked = {
            f"[`{command.path} {word}`]({command.name}-{word}.md)": _plain(text)
            for word, text in command.commands.items()
        }
        yield from ("## Commands", "", *_rows("command", linked))
    if command.examples:
        yield from ("## Examples", "", *_code("sh", *command.examples))
    if command.parent is None:
        yield from ("## Exit status", "", *_table("status", STATUS))
        yield from ("## Environment", "", *_table("variable", ENVIRONMENT))
    else:
        yield f"See also [`{command.parent}`]({command.parent.replace(' ', '-')}.md)."


def _paragraph(text: str) -> Iterator[str]:
    if text.startswith("\b\n"):
        yield from _code("text", *text.splitlines()[1:])
    else:
        yield from (_plain(" ".join(text.split())), "")


def _code(language: str, *lines: str) -> Iterator[str]:
    yield from (f"```{language}", *lines, "```", "")


def _table(kind: str, entries: dict[str, str]) -> Iterator[str]:
    return _rows(
        kind, {f"`{term}`".replace("|", "\\|"): _plain(text) for term, text in entries.items()}
    )


def _rows(kind: str, entries: dict[str, str]) -> Iterator[str]:
    yield from (f"| {kind} | |", "|---|---|")
    yield from (f"| {term} | {text} |" for term, text in entries.items())
    yield ""


def _plain(text: str) -> str:
    """Text in which nothing but `code` is markup."""
    return "".join(
        part if _CODE.fullmatch(part) else _MARKUP.sub(r"\\\1", part) for part in _CODE.split(text)
    )
