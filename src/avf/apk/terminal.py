"""Text from files, made fit for a terminal and for a line of a log."""


def printable(text: str) -> str:
    """`text` with every character escaped that would move the cursor, start a line or hide another character."""
    return "".join([char if char.isprintable() else _escaped(char) for char in text])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
