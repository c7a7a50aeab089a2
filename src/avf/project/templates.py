"""Projects to begin with: a payload that runs as it is, what it is, and how to go on."""

import re
import shutil
import tempfile
from pathlib import Path

from avf.project.errors import ProjectError

TEMPLATES = ("python", "c", "service")
"""The projects that `make_project` can make."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def make_project(folder: Path, template: str) -> list[str]:
    """Makes the new folder, whole or not at all; the names of its files. Raises ProjectError."""
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise ProjectError(
            f"{name!r} is no name for a project: letters, digits, dots, dashes and underscores"
        )
    if folder.exists():
        raise ProjectError(f"{folder} is there already")
    source = Path(__file__).parent / "skeletons" / template
    word = re.sub(r"[^a-z0-9_]", "_", name.lower())
    values = {
        "@NAME@": name,
        "@PACKAGE@": f"com.example.{word if word[0].isalpha() else f'p_{word}'}",
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".avf-new-", dir=folder.parent) as made:
            files = _fill(source, Path(made, name), values)
            Path(made, name).rename(folder)
    except OSError as error:
        raise ProjectError(f"{folder} cannot be made: {error.strerror}") from None
    return files


def _fill(source: Path, target: Path, values: dict[str, str]) -> list[str]:
    """Copies the template. A name that begins with `dot-` is that of a hidden file."""
    names = []
    for path in sorted(source.rglob("*")):
        if path.is_dir() or path.suffix == ".pyc":
            continue
        name = str(path.relative_to(source)).replace("dot-", ".").removesuffix(".in")
        text = path.read_text()
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)
        shutil.copymode(path, target / name)
        names.append(name)
    return names
