"""`vm completion`: what makes a shell complete the arguments of `vm`."""

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command()
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
