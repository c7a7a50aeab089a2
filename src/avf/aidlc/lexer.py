"""Characters to tokens."""

import enum
import re
from dataclasses import dataclass

from .errors import Diagnostics, shortened
from .limits import FILE_TOKENS, NUMBER_LENGTH
from .source import Source, Span


class Kind(enum.Enum):
    """What a token is."""

    KEYWORD = "keyword"
    IDENTIFIER = "identifier"
    ANNOTATION = "annotation"
    INTEGER = "integer"
    FLOAT = "floating point number"
    CHAR = "character"
    STRING = "string"
    SYMBOL = "symbol"
    END = "end of file"


KEYWORDS = frozenset(
    {
        "const",
        "enum",
        "false",
        "import",
        "in",
        "inout",
        "interface",
        "oneway",
        "out",
        "package",
        "parcelable",
        "true",
        "union",
    }
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `doc` is the last documentation comment before it."""

    kind: Kind
    text: str
    span: Span
    doc: str | None = None

    def __str__(self) -> str:
        return "end of file" if self.kind is Kind.END else f"'{shortened(self.text)}'"


_PATTERN = re.compile(
    r"""
    (?P<space>[\s]+)
  | (?P<line>//[^\n]*)
  | (?P<block>/\*.*?\*/)
  | (?P<annotation>@[A-Za-z_][A-Za-z0-9_]*)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>0[xX][A-Za-z0-9_.]*|\.?[0-9](?:[eE][-+]?[0-9]|[A-Za-z0-9_.])*+)
  | (?P<char>'[^\n]')
  | (?P<string>"(?:[^"\\\n]++|\\[^\n])*+")
  | (?P<symbol><<|>>|<=|>=|==|!=|&&|\|\||[-(){}\[\]<>:;,.=+*%&|^!~]|/(?!\*))
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)

_INTEGER = re.compile(
    r"(?:0[xX][0-9a-fA-F_]+|[0-9][0-9_]*)(?:u8|u32|u64|[lL])*",
)
_FLOAT = re.compile(
    r"[0-9]*\.?[0-9]+[eE][-+]?[0-9]+f?|[0-9]*\.[0-9]+f?|[0-9]+f",
)

_KINDS = {
    "annotation": Kind.ANNOTATION,
    "char": Kind.CHAR,
    "string": Kind.STRING,
    "symbol": Kind.SYMBOL,
}

_CLOSED = {'"': Kind.STRING, "'": Kind.CHAR}
"""What ends as it begins."""


def tokenize(source: Source, diagnostics: Diagnostics) -> list[Token]:
    """All tokens, an END last. What is no token is reported; where one was meant, one takes its place."""
    text = source.text
    tokens: list[Token] = []
    doc: str | None = None
    at = 0
    while at < len(text):
        if len(tokens) == FILE_TOKENS:
            message = f"a file has at most {FILE_TOKENS} tokens; what follows is not read"
            diagnostics.error(message, source, Span(at, at + 1))
            break
        match = _PATTERN.match(text, at)
        if match is None:
            span = _report(source, at, diagnostics)
            if text[at] in _CLOSED:
                tokens.append(Token(_CLOSED[text[at]], text[at] * 2, span, doc))
            at = span.end
            continue
        span = Span(at, match.end())
        at = match.end()
        group = match.lastgroup or ""
        if group == "block" and span.end - span.start > 4 and text.startswith("/**", span.start):
            doc = match.group()
        if group in ("space", "line", "block"):
            continue
        tokens.append(_token(group, match.group(), span, doc, source, diagnostics))
        doc = None
    end = tokens[-1].span.end if tokens else 0
    tokens.append(Token(Kind.END, "", Span(end, end), doc))
    return tokens


def _token(
    group: str, text: str, span: Span, doc: str | None, source: Source, diagnostics: Diagnostics
) -> Token:
    if group == "word":
        return Token(Kind.KEYWORD if text in KEYWORDS else Kind.IDENTIFIER, text, span, doc)
    if group != "number":
        return Token(_KINDS[group], text, span, doc)
    if len(text) > NUMBER_LENGTH:
        message = (
            f"'{shortened(text)}' is too long: a number has at most {NUMBER_LENGTH} characters"
        )
    elif _INTEGER.fullmatch(text):
        return Token(Kind.INTEGER, text, span, doc)
    elif _FLOAT.fullmatch(text):
        return Token(Kind.FLOAT, text, span, doc)
    else:
        message = f"'{text}' is no number"
    diagnostics.error(message, source, span)
    return Token(Kind.INTEGER, "0", span, doc)


def _report(source: Source, at: int, diagnostics: Diagnostics) -> Span:
    """Reports what begins at `at`, and tells how much of the text is lost with it."""
    text = source.text
    if text.startswith("/*", at):
        diagnostics.error("this comment does not end", source, Span(at, at + 2))
        return Span(at, len(text))
    if text[at] in _CLOSED:
        stop = text.find("\n", at)
        span = Span(at, len(text) if stop < 0 else stop)
        diagnostics.error(f"this {_CLOSED[text[at]].value} does not end", source, span)
        return span
    diagnostics.error(f"unexpected character {shown(text[at])}", source, Span(at, at + 1))
    return Span(at, at + 1)


def shown(char: str) -> str:
    """A character in quotes, by its code if it cannot be seen."""
    return f"'{char}'" if char.isprintable() else repr(char)
