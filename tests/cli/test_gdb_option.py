"""What `--gdb` takes."""

import click
import pytest
from click.testing import CliRunner

from avf.cli.options import run_options


@click.command()
@click.argument("config")
@run_options
def command(config: str, gdb: int | None, **_: object) -> None:
    click.echo(f"{config} {gdb}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["c.json"], "c.json None"),
        (["c.json", "--gdb"], "c.json 0"),
        (["--gdb=3456", "c.json"], "c.json 3456"),
        (["--gdb", "3456", "c.json"], "c.json 3456"),
        (["--gdb", "--json", "c.json"], "c.json 0"),
    ],
)
def test_a_port_or_none(arguments: list[str], expected: str) -> None:
    assert CliRunner().invoke(command, arguments).output.strip() == expected


@pytest.mark.parametrize("value", ["0", "65536", "c.json"])
def test_what_is_no_port(value: str) -> None:
    result = CliRunner().invoke(command, [f"--gdb={value}", "c.json"])
    assert result.exit_code == 2
    assert f"{value} is no port from 1 to 65535; without one, --gdb comes last" in result.output
