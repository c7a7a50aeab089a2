"""How a payload is called: arguments behind `--`, variables by `--env`; and `--detach`, which leaves it running."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from avf.cli.detach import stay_behind
from avf.cli.text import CliError

F = TypeVar("F", bound=Callable[..., Any])
_ARGUMENTS = "avf.payload_arguments"
WORDS = "avf.words"
"""In a context's `meta`: all words behind the command, for completion, which comes before they are understood."""


class PayloadCommand(click.Command):
    """A command whose words behind the first `--` are the payload's; `payload_arguments` tells them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        if "--" in args:
            at = args.index("--")
            ctx.meta[_ARGUMENTS] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.params.get("detach") and (status := stay_behind(ctx)) is not None:
            return status
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENT...]"]


def payload_arguments() -> tuple[str, ...]:
    """Of the command that runs."""
    found: tuple[str, ...] = click.get_current_context().meta.get(_ARGUMENTS, ())
    return found


class _Variable(click.ParamType):  # type: ignore[type-arg]
    """NAME=VALUE, or NAME for the value it has here."""

    name = "variable"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, content = value.partition("=")
        if not name:
            self.fail(f"{value!r} is no variable; it looks like NAME=VALUE.", param, ctx)
        if not equals:
            if name not in os.environ:
                self.fail(f"{name} is not set here; write {name}=VALUE.", param, ctx)
            content = os.environ[name]
        return name, content


def env_option(command: F) -> F:
    """Adds `--env`, whose values arrive as `env`: pairs of name and value."""
    return click.option(
        "-e",
        "--env",
        "env",
        type=_Variable(),
        multiple=True,
        metavar="NAME[=VALUE]",
        help="A variable of the payload's environment; without VALUE as it is here. May be repeated.",
    )(command)


def environment(variables: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The values of `--env`. Raises CliError if one comes twice."""
    found = dict(variables)
    names = [name for name, _ in variables]
    if len(found) < len(names):
        raise CliError(f"--env: {next(n for n in names if names.count(n) > 1)} comes twice")
    return found
