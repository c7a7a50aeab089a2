"""What the target does with one input, which is any bytes."""

import ast

from avf.aidlc import AidlError, Source, compile_sources


class _Nowhere:
    """Finds no imported file."""

    def find(self, name: str) -> Source | None:
        return None

    def describe(self) -> str:
        return "nowhere"


def compile_file(data: bytes) -> None:
    """One file; modules must be Python."""
    source = Source("p/P.aidl", data.decode("utf-8", "replace"))
    for text in compile_sources([source], _Nowhere()).values():
        ast.parse(text)


TARGETS = {"compile": compile_file}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it refused it with an AidlError."""
    try:
        TARGETS[name](data)
    except AidlError as error:
        assert "error: " in str(error)
        return False
    return True
