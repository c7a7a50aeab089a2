"""Paths as arguments and options: an empty text names no file, and would else mean the current folder."""

from pathlib import Path
from typing import Any

import click


class PathType(click.Path):
    """A path that is not empty; see click.Path for the options."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty text names no file or folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathType(path_type=Path)
FILE = PathType(path_type=Path, dir_okay=False)
FOLDER = PathType(path_type=Path, file_okay=False)
