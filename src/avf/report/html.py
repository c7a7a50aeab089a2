"""HTML that is safe by the way it is made: text is escaped unless it is HTML already.

element("p", "2 < 3", element("b", name), class_="note")
"""

import html
from typing import TypeAlias

from avf.printable import printable, printable_lines

MAX_TEXT = 4096
"""Characters of one text; what is longer is cut, and the cut is told."""
_EMPTY = frozenset({"meta", "br", "line", "rect", "path", "circle", "polyline"})


class Html(str):
    """A piece of HTML."""

    __slots__ = ()


Child: TypeAlias = Html | str | int | float | None


def element(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element. An attribute's `_` at the end is left out, others become `-`; None and False are no attribute."""
    words = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{html.escape(shown(str(value)))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY and not children:
        return Html(f"<{name}{words}>" if name in ("meta", "br") else f"<{name}{words}/>")
    return Html(f"<{name}{words}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Several pieces after each other."""
    return Html("".join(map(_piece, children)))


def lines(text: str, limit: int = MAX_TEXT) -> Html:
    """Text whose ends of lines stay, for a `pre`."""
    return Html(html.escape(printable_lines(cut(text, limit))))


def shown(text: str) -> str:
    """One line of visible characters, neither too long nor able to turn round what stands beside it."""
    return printable(cut(text))


def cut(text: str, limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… and {len(text) - limit} characters more"


def _piece(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Html) else html.escape(shown(str(child)))
