"""A place in a file's tokens, and what every kind of reading does with it."""

from typing import NoReturn

from . import tree
from .errors import Diagnostics
from .lexer import Kind, Token, tokenize
from .limits import DEPTH, NAME_LENGTH, NAME_PARTS, QUALIFIED_LENGTH
from .source import Source, Span


class Unreadable(Exception):
    """The error is reported; skip to where reading makes sense again."""


class Cursor:
    """The tokens of a source and the next one of them."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.tokens = tokenize(source, diagnostics)
        self.at = 0
        self.depth = 0

    # Tokens

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        if token.kind is not Kind.END:
            self.at += 1
        return token

    def sees(self, *texts: str) -> bool:
        return self.next.text in texts and self.next.kind in (Kind.SYMBOL, Kind.KEYWORD)

    def accept(self, *texts: str) -> Token | None:
        return self.take() if self.sees(*texts) else None

    def expect(self, text: str, after: str) -> Token:
        if not self.sees(text):
            self.fail(f"expected '{text}' {after}, not {self.next}")
        return self.take()

    def end_statement(self, after: str) -> None:
        """A `;`. One that is missing at the end of a line is reported there, and reading goes on."""
        if self.accept(";"):
            return
        end = self.tokens[self.at - 1].span.end
        if "\n" not in self.source.text[end : self.next.span.start]:
            self.fail(f"expected ';' {after}, not {self.next}")
        self.diagnostics.error(f"expected ';' {after}", self.source, Span(end, end))

    def fail(self, message: str, span: Span | None = None) -> NoReturn:
        self.diagnostics.error(message, self.source, span or self.next.span)
        raise Unreadable

    def enter(self) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            self.fail("this is nested too deeply")

    def leave(self) -> None:
        self.depth -= 1

    def skip(self) -> None:
        """To behind the next `;` or balanced `{}`, or before the `}` that closes what is being read."""
        open_braces = 0
        while self.next.kind is not Kind.END:
            if self.sees("}") and not open_braces:
                return
            token = self.take()
            open_braces += {"{": 1, "}": -1}.get(token.text, 0) if token.kind is Kind.SYMBOL else 0
            if not open_braces and token.text in (";", "}") and token.kind is Kind.SYMBOL:
                self.accept(";")
                return

    # Names

    def identifier(self, what: str) -> tree.Name:
        token = self.next
        if token.kind is not Kind.IDENTIFIER:
            word = "the reserved word " if token.kind is Kind.KEYWORD else ""
            self.fail(f"expected {what}, not {word}{token}")
        if len(token.text) > NAME_LENGTH:
            self.fail(f"a name has at most {NAME_LENGTH} characters")
        self.take()
        return tree.Name(token.text, token.span)

    def qualified(self, what: str) -> tree.Name:
        name = self.identifier(what)
        parts = [name.text]
        span = name.span
        while self.accept("."):
            part = self.identifier("a name after '.'")
            parts.append(part.text)
            span = span.to(part.span)
            if len(parts) > NAME_PARTS:
                self.fail(f"a name has at most {NAME_PARTS} parts", part.span)
        text = ".".join(parts)
        if len(text) > QUALIFIED_LENGTH:
            self.fail(f"a name with dots has at most {QUALIFIED_LENGTH} characters", span)
        return tree.Name(text, span)
