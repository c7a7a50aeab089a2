"""`vm completion`: what makes a shell complete the arguments of `vm`."""

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write a script that makes SHELL complete the arguments of vm.

    For bash, put  eval "$(vm completion bash)"  into ~/.bashrc; for zsh the same into ~/.zshrc; for fish, write it
    to ~/.config/fish/completions/vm.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "vm", "_VM_COMPLETE")
    click.echo(ShellComplete.source(made))
