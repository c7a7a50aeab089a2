"""`vm completion`, and what a shell is told to complete for the arguments of `vm`."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from avf.cli.invocation import WORDS
from avf.cli.paths import PathType

_FOLDERS = ("lib/x86_64/", "bin/", "assets/")


@click.command(epilog='Example:  eval "$(vm completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Write a script that makes SHELL complete the arguments of vm.

    For bash, put  eval "$(vm completion bash)"  into ~/.bashrc; for zsh the same into ~/.zshrc; for fish, write it
    to ~/.config/fish/completions/vm.fish.
    """
    click.echo(script(shell))


def script(shell: str) -> str:
    """The script for bash, zsh or fish."""
    from avf.cli.command import vm

    kind = get_completion_class(shell)
    assert kind is not None
    return ShellComplete.source(kind(vm, {}, "vm", "_VM_COMPLETE"))


class SourceFile(PathType):
    """A payload: completed with APKs, whatever can be run, and folders."""

    def __init__(self, *, apks_only: bool = False) -> None:
        super().__init__(path_type=Path)
        self._apks_only = apks_only

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        head, _, tail = incomplete.rpartition("/")
        prefix = f"{head}/" if "/" in incomplete else ""
        try:
            found = sorted(Path(prefix or ".").iterdir())
        except OSError:
            return []
        names = [(path, path.name) for path in found if path.name.startswith(tail)]
        if not tail.startswith("."):
            names = [(path, name) for path, name in names if not name.startswith(".")]
        return [
            CompletionItem(f"{prefix}{name}/" if path.is_dir() else prefix + name)
            for path, name in names
            if path.is_dir() or self._is_wanted(path)
        ]

    def _is_wanted(self, path: Path) -> bool:
        from avf.project import ProjectError, kind_of

        if self._apks_only:
            return path.suffix == ".apk"
        try:
            kind_of(path)
        except ProjectError:
            return False
        return True


class PayloadName(click.ParamType):  # type: ignore[type-arg]
    """A file in the APK that stands before it on the command line."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words = ctx.meta.get(WORDS, ())
        sources = [Path(word) for word in words if not word.startswith("-")]
        names = next((found for found in map(payload_names, sources) if found), [])
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def payload_names(apk: Path) -> list[str]:
    """What `--payload-binary-name` can name in an APK: files right in the folders that the guest looks into."""
    from avf.apk import ApkError, entries

    try:
        with open(apk, "rb") as file:
            found = [entry.name for entry in entries(file.fileno())]
    except (ApkError, OSError):
        return []
    return [
        name.removeprefix(folder)
        for folder in _FOLDERS
        for name in found
        if name.startswith(folder)
        and "/" not in name.removeprefix(folder)
        and not name.endswith("/")
        and name != "assets/avf-payload.json"
        and name.isprintable()
    ]
