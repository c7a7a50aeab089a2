"""Compiles .aidl texts without files, and reads tables of them."""

import re
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, settings

from avf.aidlc import Options, Source, compile_sources

HERE = Path(__file__).parent

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For tests with hypothesis: how fast the machine is does not matter."""


class Memory:
    """Files by path, as `a/b/C.aidl`."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.sources = {path: Source(path, text) for path, text in files.items()}

    def find(self, name: str) -> Source | None:
        return self.sources.get(name.replace(".", "/") + ".aidl")

    def describe(self) -> str:
        return "in memory"


def compile_texts(
    files: Mapping[str, str], *roots: str, options: Options | None = None
) -> dict[str, str]:
    """Compiles `roots`, or all there is."""
    memory = Memory(files)
    sources = [memory.sources[path] for path in roots or files]
    return compile_sources(sources, memory, options)


def compile_text(text: str, path: str = "p/IFoo.aidl", options: Options | None = None) -> str:
    """The modules of the types in one file, without their asyncio faces."""
    texts = compile_texts({path: text}, options=options)
    inside = [name for name in texts if "._" in name and not name.endswith("_async")]
    return "\n".join(texts[name] for name in inside)


def table(name: str) -> dict[str, dict[str, str]]:
    """A file of cases: `=== CASE` begins one, `--- NAME` begins a text in it."""
    cases: dict[str, dict[str, str]] = {}
    for section in re.split(r"^=== ", (HERE / name).read_text(), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        parts = re.split(r"^--- (.*)\n", body, flags=re.MULTILINE)[1:]
        assert title not in cases, title
        cases[title] = dict(zip(parts[::2], parts[1::2], strict=True))
    return cases
