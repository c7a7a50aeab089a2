"""Text that others have written, made fit for a terminal and for a log.

A name in a file, what a guest or another process says and where an error comes from may hold anything: ends of lines
that begin a line of their own, sequences that move the cursor, characters that hide or turn round what follows. Whoever
prints such text passes it through here.
"""

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def printable(text: str) -> str:
    """`text` as one line, with what is no visible character written as `\\n`, `\\t`, `\\u{1b}`."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else escaped(char) for char in text])


def printable_lines(text: str) -> str:
    """As `printable`, for several lines: ends of lines and tabs stay, carriage returns are left out."""
    return "".join(
        [
            char if char.isprintable() or char in "\n\t" else "" if char == "\r" else escaped(char)
            for char in text
        ]
    )


def escaped(char: str) -> str:
    """One character that is not to be printed."""
    return _ESCAPES.get(char) or f"\\u{{{ord(char):x}}}"
