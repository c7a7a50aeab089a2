"""What Sphinx reads: the pages of docs/ in the order of docs/index.md, and pages that are made from the code."""

import re
import shutil
import tomllib
from collections.abc import Iterator
from os.path import normpath, relpath
from pathlib import Path, PurePosixPath
from typing import Any

from website import commands, python_api

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OTHER_PAGES = {"CHANGELOG.md": "changelog.md", "SPECIFICATION.md": "specification.md"}
"""Pages of the repository outside of docs/, and their names on the site."""

_LINK = re.compile(r"\[([^]]*)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_ENTRY = re.compile(r"^- \[([^]]*)\]\(([^)#]+\.md)\)", re.MULTILINE)
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class BrokenLink(Exception):
    """A link of a page leads to no file of the repository."""


def project_table() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def stage(folder: Path) -> None:
    """Puts all pages into `folder`, in place of what was there. Raises BrokenLink."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("*.md"))
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pages() -> dict[str, str]:
    """The site's path of each page -> its text in Markdown, all links to where things are on the site."""
    made = {
        str(path.relative_to(DOCS)): with_links(path.read_text(), path)
        for path in sorted(DOCS.rglob("*.md"))
    }
    for name, page in OTHER_PAGES.items():
        made[page] = with_links((ROOT / name).read_text(), ROOT / name)
    for overview, generated in (
        ("reference/python.md", python_api.pages()),
        ("reference/commands.md", commands.pages()),
    ):
        made |= generated
        made[overview] += toctree("", [relpath(name, "reference") for name in generated])
    made["index.md"] += "".join(contents(made["index.md"]))
    return made


def contents(index: str) -> Iterator[str]:
    """A hidden table of contents for each part of the landing page that links to pages."""
    parts = _HEADING.split(index)[1:]
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        linked = [f"{name} <{page}>" for name, page in _ENTRY.findall(text)]
        if linked:
            yield toctree(title, linked)


def toctree(caption: str, names: list[str]) -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *names, "```", ""])


def with_links(text: str, path: Path) -> str:
    """The text of the page at `path` with its links as they are right on the site."""
    page = OTHER_PAGES.get(path.name) if path.parent == ROOT else str(path.relative_to(DOCS))
    assert page is not None
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _on_site(link, path, page), part)
        for part in _FENCED.split(text)
    )


def _on_site(link: re.Match[str], path: Path, page: str) -> str:
    """A link to another page of the site; the name of a file that has none."""
    text, named, anchor = link.groups("")
    target = Path(normpath(path.parent / named))
    if not target.exists() or not target.is_relative_to(ROOT):
        raise BrokenLink(f"{path.relative_to(ROOT)}: {link[0]} leads nowhere")
    inside = target.relative_to(ROOT)
    if target.is_relative_to(DOCS):
        wanted = str(target.relative_to(DOCS))
    elif str(inside) in OTHER_PAGES:
        wanted = OTHER_PAGES[str(inside)]
    else:
        return f"`{inside}`" if text in (named, target.name) else f"{text} (`{inside}`)"
    return f"[{text}]({relpath(wanted, PurePosixPath(page).parent)}{anchor})"
