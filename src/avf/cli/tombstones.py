"""`vm tombstones`: what guests left when something crashed in them."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from avf.cli.paths import PathType
from avf.cli.text import CliError
from avf.printable import printable, printable_lines
from avf.printing import printable_json
from avf.runtime import SYSTEM_RUNTIME_DIR, SYSTEM_STATE_DIR, user_runtime_dir

_PLACES = 100
_MAX_NOTE = 4096
_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One tombstone and the note beside it: time, cid, uid, pid, size, ended."""

    name: str
    """Its number, for those that the system service keeps of another user after that user's uid and a slash."""
    path: Path
    note: dict[str, Any]


@click.group(invoke_without_command=True, epilog="Example:  vm tombstones show 0")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
@click.pass_context
def tombstones(ctx: click.Context, as_json: bool) -> None:
    """List and show what crashing guests have left."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@tombstones.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
def list_tombstones(as_json: bool) -> None:
    """List tombstones, the oldest first."""
    _list(as_json)


@tombstones.command()
@click.argument("number")
@click.option(
    "--symbols",
    multiple=True,
    metavar="PATH",
    type=PathType(path_type=Path, exists=True),
    help="An APK, an ELF file or a folder of them, for the names of functions; may be repeated.",
)
def show(number: str, symbols: tuple[Path, ...]) -> None:
    """Write a tombstone to standard output. NUMBER is as `list` shows it.

    With --symbols, frames in the payload's own files get the name of their function and, if the file was compiled with
    -g, of their line.

    \b
    Example:
      vm tombstones show 0 --symbols app.apk
    """
    wanted = _normal(number)
    found = next((stone for stone in reversed(_find()) if stone.name == wanted), None)
    if found is None:
        raise CliError(f"there is no tombstone {number}")
    text = sys.stdout.isatty()
    try:
        if symbols:
            _show_with_names(found.path, symbols)
            return
        with open(found.path, "rb") as file:
            while data := file.read(_CHUNK):
                if text:
                    data = printable_lines(data.decode(errors="replace")).encode()
                sys.stdout.buffer.write(data)
    except OSError as error:
        raise CliError(f"cannot read {found.path}") from error


def _show_with_names(path: Path, sources: Sequence[Path]) -> None:
    try:
        import elftools  # noqa: F401
    except ImportError as error:
        raise CliError(
            "symbols cannot be read", "`pip install avf-linux[symbols]` brings what is missing."
        ) from error
    from avf.cli.symbols import Symbols

    names = Symbols(sources)
    with open(path, encoding="utf-8", errors="replace") as file:
        while line := file.readline(_CHUNK):
            click.echo(printable(names.named(line.rstrip("\n"))))


def _list(as_json: bool) -> None:
    stones = _find()
    if as_json:
        found = [{"name": s.name, "path": str(s.path), **s.note} for s in stones]
        click.echo(printable_json(found, indent=2))
        return
    for stone in stones:
        note = {
            key: printable(str(value)) for key, value in stone.note.items() if value is not None
        }
        click.echo(
            f"{stone.name:>8}  {note.get('time', '?')}  CID {note.get('cid', '?')},"
            f" uid {note.get('uid', '?')}, {note.get('size', '?')} bytes, {note.get('ended', '?')}"
        )


def _find() -> list[Tombstone]:
    """All that can be found, by time."""
    stones = [stone for prefix, folder in _folders() for stone in _in_folder(prefix, folder)]
    return sorted(stones, key=lambda stone: str(stone.note.get("time", "")))


def _folders() -> Iterator[tuple[str, Path]]:
    with suppress(OSError):
        yield "", user_runtime_dir() / "tombstones"
    for base in (SYSTEM_STATE_DIR / "tombstones", SYSTEM_RUNTIME_DIR / "tombstones"):
        yield "", base / str(os.getuid())
        yield "unknown/", base / "unknown"
        try:
            others = sorted(path.name for path in base.iterdir() if path.name.isdecimal())
        except OSError:
            continue
        for name in others:
            if name != str(os.getuid()):
                yield f"{name}/", base / name


def _in_folder(prefix: str, folder: Path) -> Iterator[Tombstone]:
    """Names are tried, for a folder may be one to pass through but not to list."""
    for number in range(_PLACES):
        path = folder / f"tombstone_{number:02}"
        if os.access(path, os.R_OK):
            yield Tombstone(f"{prefix}{number:02}", path, _note(path))


def _note(path: Path) -> dict[str, Any]:
    try:
        with open(path.with_name(f"{path.name}.json"), "rb") as file:
            note = json.loads(file.read(_MAX_NOTE))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _normal(number: str) -> str:
    prefix, slash, last = number.rpartition("/")
    return f"{prefix}{slash}{last:0>2}"
