"""The samples of a page, and what is to be done with each.

A block of code in a page is one of these:

console     commands behind `$ `, each followed by what it prints; `…` stands for anything, on a line of its own for any
            lines. Continued lines begin with `> `. They are typed into one shell for the whole page
sh          commands without what they print; each must succeed
python      run, all of one page in one namespace, unless it has a name
text        nothing that could be run
others      a file of the page's folder if it has a name; else its syntax is checked

A block has the name that stands alone in front of it, as in "`hello.c`:" or "`hello.c`, which …:". Comments in front of
a block say more:

<!-- setup: COMMANDS -->     what readers of a reference page have already; typed before the block
<!-- not run: REASON -->     it cannot be run in a test
<!-- second terminal -->     its command runs on; the page goes on when it has printed what is shown
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
RUN = ("console", "sh", "python")
COMMANDS = re.compile(
    r"^(\$|sudo|pip|python[\d.]*|curl|vm|avf-aidl|make|gcc|pytest|git|echo|export|openssl) ",
    re.MULTILINE,
)
"""How a line that somebody is to type begins."""

_COMMENT = re.compile(r"<!-- (.*?) -->", re.DOTALL)
_NAMED = re.compile(r"`([\w./-]+\.\w+)`(?:, [^:]+)?:\Z")


@dataclass(frozen=True, slots=True)
class Sample:
    page: str
    line: int
    language: str
    """"" for an indented block."""
    text: str
    name: str | None
    """The file that it is."""
    setup: str | None
    """Commands that come first."""
    not_run: str | None
    """Why it is not run."""
    second_terminal: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def typed(self) -> list[tuple[str, str]]:
        """The commands of a console, each with what it prints."""
        parts = re.split(r"^\$ (.*(?:\n> .*)*)\n", self.text, flags=re.MULTILINE)
        if parts[0]:
            raise ValueError(f"{self}: something is printed before anything was typed")
        commands = [command.replace("\n> ", "\n") for command in parts[1::2]]
        return list(zip(commands, parts[2::2], strict=True))


def pages() -> list[str]:
    """The pages whose samples are looked at."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def samples(page: str) -> list[Sample]:
    return list(read_samples((ROOT / page).read_text(), page))


def read_samples(text: str, page: str) -> Iterator[Sample]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for number, token in enumerate(tokens):
        if token.type in ("fence", "code_block"):
            before = tokens[:number]
            comments = list(_comments(before))
            assert token.map is not None
            yield Sample(
                page,
                token.map[0] + 1,
                token.info if token.type == "fence" else "",
                token.content,
                None if token.info in ("console", "sh", "text", "") else _name(before),
                _behind("setup: ", comments),
                " ".join((_behind("not run: ", comments) or "").split()) or None,
                "second terminal" in comments,
            )


def _comments(before: list[Token]) -> Iterator[str]:
    """Those directly in front of a block."""
    for token in reversed(before):
        if token.type != "html_block":
            return
        for found in _COMMENT.finditer(token.content):
            yield found[1]


def _behind(beginning: str, comments: list[str]) -> str | None:
    for text in comments:
        if text.startswith(beginning):
            return text.removeprefix(beginning)
    return None


def _name(before: list[Token]) -> str | None:
    """What the last line of the paragraph in front of a block names."""
    rest = [token for token in before if token.type != "html_block"]
    if len(rest) < 2 or rest[-1].type != "paragraph_close":
        return None
    found = _NAMED.search(rest[-2].content.split("\n\n")[-1].splitlines()[-1])
    return found[1] if found else None
