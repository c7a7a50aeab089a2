"""The site: no warning, no broken link, no network, and an entry for every public name and every command.

All tests that need it are in this file, so that it is built once.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from avf.cli.described import described
from tests.docs.site import Site
from website import pictures, stage
from website.faces import modules, public_names

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
"""Elements by which a page loads something, and the attribute that names it."""
VERBATIM = {"code", "pre", "script", "style", "title"}
MARKUP = re.compile(r"^\s*\|.*\|\s*$|\*\*\w[^*\n]*\*\*|```|\]\(", re.MULTILINE)
"""Rows of tables, bold text, samples and links that were not taken for such."""


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.words = ""
        self._verbatim = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        self._verbatim += tag in VERBATIM
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADING and LOADING[tag] in values and values.get("rel") != "canonical":
            self.loaded.append(values[LOADING[tag]])

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in VERBATIM

    def handle_data(self, data: str) -> None:
        """Code becomes one letter, so that what is around it stays on its line."""
        self.words += "x" if self._verbatim else data


@pytest.fixture(scope="module")
def pages(site: Site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.folder.rglob("*.html")}


def broken(pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for link in page.links:
            if link.startswith(("https:", "mailto:", "javascript:")):
                continue
            name, anchor = urldefrag(link)
            target = (path.parent / unquote(name)).resolve() if name else path
            if target not in pages or unquote(anchor) not in pages[target].anchors:
                yield f"{path.name}: {link}"


def test_nothing_is_wrong_with_it(site: Site) -> None:
    """Warnings count as errors."""
    assert site.status == 0, site.told
    assert "WARNING" not in site.told


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    assert len(pages) > 60
    assert sum(len(page.links) for page in pages.values()) > 5000
    assert not list(broken(pages))


def test_no_markup_is_left_as_text(pages: dict[Path, Page]) -> None:
    left = {path.name: MARKUP.search(page.words) for path, page in pages.items()}
    assert {name: found.group() for name, found in left.items() if found} == {}


def test_markup_that_is_left_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for left in ("| <code>a</code> | b |", "**so</em>**", "[a](b", "```"):
        page.write_text(f"<pre>{left}</pre>\n<p>{left}</p>\n")
        assert MARKUP.findall(Page(page).words), left
    page.write_text("<p>f(<em>**options</em>) a | b</p><code>**bold** ](</code>")
    assert not MARKUP.findall(Page(page).words)


def test_it_needs_no_network(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.loaded
        assert not [name for name in page.loaded if "//" in name], path


def test_every_public_name_has_an_entry(site: Site) -> None:
    names = {f"{module}.{name}" for module in modules() for name in public_names(module)}
    assert len(names) > 400
    assert names - site.entries("py") == set()


def test_every_command_has_a_page(site: Site) -> None:
    commands = list(described())
    assert len(commands) > 30
    for command in commands:
        page = site.page(f"reference/commands/{command.name}")
        assert f"<title>{command.path} " in page
        assert all(option.split()[0].rstrip(",") in page for option in command.options)


def test_the_pictures_are_what_their_source_draws() -> None:
    """`python -m website.pictures` draws them."""
    for name, picture in pictures.PICTURES.items():
        assert (pictures.FOLDER / f"{name}.svg").read_text() == picture.svg(), name


def test_the_landing_page_leads_to_every_page() -> None:
    index = (ROOT / "docs/index.md").read_text()
    listed = "".join(stage.contents(index))
    for path in (ROOT / "docs").rglob("*.md"):
        name = str(path.relative_to(ROOT / "docs"))
        assert name == "index.md" or f"<{name}>" in listed, name


def test_a_link_that_leads_nowhere_is_an_error() -> None:
    page = ROOT / "docs/vsock.md"
    for text in ("[a](none.md)", "[a](../none/)", "see [a](../../etc/passwd) there"):
        with pytest.raises(stage.BrokenLink, match=r"docs/vsock\.md"):
            stage.with_links(text, page)


def test_files_of_the_repository_that_are_not_on_the_site_are_named() -> None:
    page = ROOT / "docs/reference/python.md"
    text = "[a](../../examples/) [LICENSE](../../LICENSE) [c](../../CHANGELOG.md#x) [d](../vsock.md#protocol) [e](#x)"
    assert stage.with_links(text, page) == (
        "a (`examples`) `LICENSE` [c](../changelog.md#x) [d](../vsock.md#protocol) [e](#x)"
    )
    assert stage.with_links(f"```\n{text}\n```", page) == f"```\n{text}\n```"
