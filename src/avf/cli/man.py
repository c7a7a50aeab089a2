"""`python -m avf.cli.man OUT`: the manual pages of `vm`, made from what its commands say of themselves."""

import argparse
import errno
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from avf.cli.described import ENVIRONMENT, STATUS, Described, described
from avf.overwriting import Kind, foreign


def main(arguments: list[str] | None = None) -> int:
    """Writes vm.1 and one page for each sub-command."""
    parser = argparse.ArgumentParser(prog="python -m avf.cli.man", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT", help="made if it is missing")
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, page in pages(version("avf-linux")):
            _write(folder / f"{name}.1", page)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _write(path: Path, page: str) -> None:
    """Raises FileExistsError for a file that is no manual page."""
    with open(path, "r+" if path.exists() else "x") as file:
        if (found := foreign(file.fileno(), Kind.MANUAL)) is not None:
            raise FileExistsError(errno.EEXIST, f"is no manual page: {found}", str(path))
        file.truncate(0)
        file.write(page)


def pages(release: str) -> Iterator[tuple[str, str]]:
    """(name, text in man(7) macros) of each page, for a version of the package."""
    for command in described():
        yield command.name, "\n".join(_page(command, release)) + "\n"


def _page(command: Described, release: str) -> Iterator[str]:
    name = _plain(command.name)
    yield f'.TH {name.upper()} 1 "" "AVF for Linux {release}" "User commands"'
    yield from (".SH NAME", f"{name} \\- {_plain(command.summary)}")
    yield from (".SH SYNOPSIS", f".B {_plain(command.path)}", _line(command.usage))
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(command.paragraphs):
        if number:
            yield ".PP"
        yield from _paragraph(paragraph)
    if command.options:
        yield from _list("OPTIONS", command.options)
    if command.commands:
        yield ".SH COMMANDS"
        for word, summary in command.commands.items():
            yield from (".TP", f".BR {name}\\-{_plain(word)} (1)", _line(summary))
    if command.examples:
        yield from (".SH EXAMPLES", ".nf", *map(_line, command.examples), ".fi")
    if command.parent is None:
        yield from _list("EXIT STATUS", STATUS)
        yield from _list("ENVIRONMENT", ENVIRONMENT)
    else:
        yield from (".SH SEE ALSO", f".BR {_plain(command.parent.replace(' ', '-'))} (1)")


def _paragraph(text: str) -> Iterator[str]:
    """One that begins with click's mark for it keeps its lines."""
    if not text.startswith("\b\n"):
        yield _line(" ".join(text.split()))
        return
    yield ".nf"
    yield from map(_line, text.splitlines()[1:])
    yield ".fi"


def _list(title: str, entries: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for term, text in entries.items():
        yield from (".TP", f".B {_plain(term)}", _line(text))


def _line(text: str) -> str:
    """A line of text, in which nothing is a request."""
    escaped = _plain(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _plain(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    sys.exit(main())
