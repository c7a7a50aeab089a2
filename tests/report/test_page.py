"""The page of a report: whole, of one piece, and the same whatever a guest has written."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.client import LifecycleStep, Moment, StartKind, Timeline
from avf.report import render
from tests.report.made import report

VOID = {"meta", "br"}
LOADING = {"src", "href", "srcset", "data", "action", "formaction", "poster", "style"}
NEVER = {
    "script",
    "link",
    "iframe",
    "object",
    "embed",
    "img",
    "image",
    "base",
    "form",
    "foreignobject",
}
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}</style>",
    "</title></head><body onload=alert(1)>",
    "\"><img src=x onerror=alert(1)>'",
    "<!--",
    "--><svg onload=alert(1)>",
    "]]>&lt;b&gt;&amp;",
    "\x00\x01\x1b[31m\x7f\x9b",
    "\u202eback\u2066 \u200b\ufeff",
    "\ud800 lone",
    "line\nline\r\nline\u2028line",
    "x" * 300_000,
]


class Page(HTMLParser):
    """The elements of a page; every one that was opened is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self.opened[-1] if self.opened else ""
        self.texts[tag] = self.texts.get(tag, "") + data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def shape(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def check_harmless(page: Page) -> None:
    assert not NEVER & set(page.shape)
    names = {name for _, attributes in page.elements for name in attributes}
    assert not LOADING & names
    assert not [name for name in names if name.startswith("on")]
    assert page.comments == [" vm report "]


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    page = Page(render(report()))
    check_harmless(page)
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(page.texts["style"].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert page.shape.index("meta") < page.shape.index("style")
    assert "url(" not in page.texts["style"] and "@import" not in page.texts["style"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_changes_nothing_but_the_text(text: str) -> None:
    usual, page = Page(render(report())), Page(render(report(text)))
    check_harmless(page)
    assert page.shape == usual.shape
    assert page.texts["style"] == usual.texts["style"]


@given(st.text())
def test_any_text(text: str) -> None:
    page = Page(render(report(f"a{text}")))
    check_harmless(page)
    assert page.shape == Page(render(report())).shape


@pytest.mark.parametrize("text", HOSTILE)
def test_only_visible_characters(text: str) -> None:
    found = render(report(text))
    assert not [char for char in found if not char.isprintable() and char != "\n"]
    found.encode()


def test_huge_texts_are_cut_and_that_is_told() -> None:
    found = render(report("x" * 3_000_000))
    assert len(found) < 400_000
    assert "characters more" in found


def test_what_a_report_tells() -> None:
    page = Page(render(report()))
    titles = re.findall(r"<h2>([^<]*)</h2>", render(report()))
    assert titles == [
        "How it died",
        "What ran",
        "Where the time of the start went",
        "What it used",
        "What proves it",
        "What it was made of",
        "Its life",
    ]
    assert page.shape.count("svg") == 3
    assert "cold start" in page.texts["span"]


@pytest.mark.parametrize("kind", StartKind)
def test_every_kind_of_start_has_words(kind: StartKind) -> None:
    made = report()
    timeline = replace(made.timeline, kind=kind)
    assert f">{timeline.title}<" in render(replace(made, timeline=timeline))


def test_a_chain_that_breaks_claims_nothing_behind_its_break() -> None:
    made = report()
    (proof,) = made.apks
    whole = replace(proof, problem="", unchanged=True)
    broken = replace(proof, problem="block 3 is another's", root_hash=None)
    for each, proved, words in ((whole, 4, True), (broken, 2, False)):
        page = render(replace(made, apks=(each,)))
        assert page.count(">proved<") == proved
        assert page.count(">not proved<") == 4 - proved
        assert ("is this APK&#x27;s, block by block" in page) is words
        assert ("block 3 is another&#x27;s" in page) is not words
        assert ("The files have changed" in page) is not words


def test_a_vm_that_was_not_started_has_no_pictures() -> None:
    made = report()
    nothing = Timeline(
        StartKind.UNKNOWN,
        made.timeline.created_ns,
        (),
        (Moment(LifecycleStep.CREATION_ASKED, 0),),
        None,
    )
    page = Page(
        render(
            replace(
                made,
                timeline=nothing,
                history=(),
                apks=(),
                files=(),
                console=None,
                log=None,
                death=None,
            )
        )
    )
    check_harmless(page)
    assert "svg" not in page.shape


def test_one_sample_and_no_time() -> None:
    """Nothing is divided by what may be zero."""
    made = report()
    still = replace(
        made.timeline,
        phases=tuple(replace(phase, begin=0.0, end=0.0) for phase in made.timeline.phases),
        moments=(Moment(LifecycleStep.CREATION_ASKED, 0.0),),
    )
    first = replace(made.history[0], rss_vm_kb=0, rss_vmm_kb=0, cpu_time_millis=0)
    check_harmless(Page(render(replace(made, timeline=still, history=(first,)))))
