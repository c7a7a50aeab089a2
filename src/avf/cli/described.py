"""What the commands say of themselves, for manual pages and for the documentation site."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from avf.cli.command import vm

_EXAMPLES = re.compile(r"(\x08\n)?Examples?:")

ENVIRONMENT = {
    "AVF_IMAGE_DIR": "The folder of the guest image.",
    "AVF_RUNTIME_DIR": "Where the user's own service and the VMs keep their sockets and files.",
    "AVF_SERVICE_SOCKET": "The virtualizationservice to use.",
    "AVF_VIRTMGR": "The virtmgr to run instead of this installation's.",
}
STATUS = {
    "0": "The command has done its work; for run-app, the payload has run.",
    "1": "An error, told on standard error.",
    "2": "Wrong usage.",
    "128+N": "Signal N has ended the command.",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A command. Texts are plain, without markup."""

    path: str
    """As it is typed: `vm tombstones show`."""
    usage: str
    """What follows that: `[OPTIONS] NUMBER`."""
    paragraphs: tuple[str, ...]
    """One that begins with a line of `\\b` keeps its lines."""
    options: dict[str, str]
    """As in `-m, --mem SIZE`: what it does."""
    commands: dict[str, str]
    """The words of its sub-commands: one line of each."""
    examples: tuple[str, ...]
    """Lines to type."""

    @property
    def name(self) -> str:
        """As of a manual page: `vm-tombstones-show`."""
        return self.path.replace(" ", "-")

    @property
    def summary(self) -> str:
        return first_sentence(self.paragraphs[0])

    @property
    def parent(self) -> str | None:
        return self.path.rpartition(" ")[0] or None


def described() -> Iterator[Described]:
    """`vm`, then each of its sub-commands, then theirs behind each."""
    yield from _described(vm, click.Context(vm, info_name="vm"))


def first_sentence(text: str) -> str:
    """The first paragraph on one line, without its full stop."""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def _described(command: click.Command, context: click.Context) -> Iterator[Described]:
    children = dict(_children(command, context))
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    yield Described(
        path=context.command_path,
        usage=" ".join(command.collect_usage_pieces(context)),
        paragraphs=tuple(text for text in paragraphs if not _EXAMPLES.match(text)),
        options=dict(record for option in options if (record := option.get_help_record(context))),
        commands={word: first_sentence(child.help or "") for word, child in children.items()},
        examples=tuple(_examples([*paragraphs, inspect.cleandoc(command.epilog or "")])),
    )
    for word, child in children.items():
        yield from _described(child, click.Context(child, info_name=word, parent=context))


def _children(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            child = command.get_command(context, word)
            assert child is not None
            yield word, child


def _examples(paragraphs: list[str]) -> Iterator[str]:
    """The lines of those that have the heading Examples, or Example in front of one."""
    for text in paragraphs:
        if heading := _EXAMPLES.match(text):
            yield from (line.strip() for line in text[heading.end() :].splitlines() if line.strip())
