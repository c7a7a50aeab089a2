"""What a wheel has besides the packages: man pages, completion, a description that names what is installed."""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?!https?:|#)(?P<target>[^)#]+)(?:#[^)]*)?\)")
_WHERE = "The pages and examples that are named here are installed in `share/doc/avf-linux` of the environment."
_COMPLETION = {
    "bash": "bash-completion/completions/vm",
    "zsh": "zsh/site-functions/_vm",
    "fish": "fish/vendor_completions.d/vm.fish",
}


class Description(MetadataHookInterface):
    """README.md, as it is read away from the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text()
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_named_pages(text),
        }


class Share(BuildHookInterface[Any]):
    """The files that are made from the code."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="avf-share-")
        folder = Path(self._folder.name)
        build_data["shared_data"] |= {
            str(folder / name): f"share/{name}"
            for name in write_share(Path(self.root, "src"), folder, self.metadata.version)
        }

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()


def with_named_pages(text: str) -> str:
    """The names of pages in the place of links to them, and where these pages are installed."""
    return f"{_LINK.sub(_named, text)}\n{_WHERE}\n"


def _named(link: re.Match[str]) -> str:
    text, page = link["text"], f"`{link['target']}`"
    return page if text == link["target"] else f"{text}: {page}"


def write_share(sources: Path, folder: Path, version: str) -> list[str]:
    """Writes what belongs into share/; the names of the files."""
    sys.path.insert(0, str(sources))
    try:
        from avf.cli.completion import script
        from avf.cli.man import pages

        made = {f"man/man1/{name}.1": page for name, page in pages(version)}
        made |= {name: script(shell) for shell, name in _COMPLETION.items()}
    finally:
        sys.path.remove(str(sources))
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(made)
