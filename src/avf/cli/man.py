"""`python -m avf.cli.man OUT`: the manual pages of `vm`, made from what its commands say of themselves."""

import argparse
import errno
import inspect
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click

from avf.cli.command import vm
from avf.overwriting import Kind, foreign

_ENVIRONMENT = {
    "AVF_IMAGE_DIR": "The folder of the guest image.",
    "AVF_RUNTIME_DIR": "Where the user's own service and the VMs keep their sockets and files.",
    "AVF_SERVICE_SOCKET": "The virtualizationservice to use.",
    "AVF_VIRTMGR": "The virtmgr to run instead of this installation's.",
}
_STATUS = {
    "0": "The command has done its work; for run-app, the payload has run.",
    "1": "An error, told on standard error.",
    "2": "Wrong usage.",
    "128+N": "Signal N has ended the command.",
}


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
    yield from _pages_of(vm, click.Context(vm, info_name="vm"), release)


def _pages_of(
    command: click.Command, context: click.Context, release: str
) -> Iterator[tuple[str, str]]:
    name = context.command_path.replace(" ", "-")
    yield name, "\n".join(_page(name, command, context, release)) + "\n"
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            child = command.get_command(context, word)
            assert child is not None
            yield from _pages_of(
                child, click.Context(child, info_name=word, parent=context), release
            )


def _page(name: str, command: click.Command, context: click.Context, release: str) -> Iterator[str]:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    yield f'.TH {_plain(name.upper())} 1 "" "AVF for Linux {release}" "User commands"'
    yield from (".SH NAME", f"{_plain(name)} \\- {_plain(_summary(paragraphs[0]))}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f".B {_plain(context.command_path)}", _line(usage))
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield from _paragraph(paragraph)
    yield from _options(command, context)
    if isinstance(command, click.Group):
        yield from _commands(command, context)
    if context.parent is None:
        yield from _list("EXIT STATUS", _STATUS)
        yield from _list("ENVIRONMENT", _ENVIRONMENT)
    else:
        yield from (
            ".SH SEE ALSO",
            f".BR {_plain(context.parent.command_path.replace(' ', '-'))} (1)",
        )


def _paragraph(text: str) -> Iterator[str]:
    """One that begins with click's mark for it keeps its lines."""
    if not text.startswith("\b\n"):
        yield _line(" ".join(text.split()))
        return
    yield ".nf"
    yield from map(_line, text.splitlines()[1:])
    yield ".fi"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        yield from _list("OPTIONS", dict(records))


def _commands(command: click.Group, context: click.Context) -> Iterator[str]:
    yield ".SH COMMANDS"
    for word in command.list_commands(context):
        child = command.get_command(context, word)
        assert child is not None
        path = f"{context.command_path} {word}".replace(" ", "-")
        yield from (".TP", f".BR {_plain(path)} (1)", _line(_summary(child.help or "")))


def _list(title: str, entries: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for term, text in entries.items():
        yield from (".TP", f".B {_plain(term)}", _line(text))


def _summary(text: str) -> str:
    """The first sentence, without its full stop."""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def _line(text: str) -> str:
    """A line of text, in which nothing is a request."""
    escaped = _plain(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _plain(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    sys.exit(main())
