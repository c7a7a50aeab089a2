"""The `vm` command."""

from avf.cli.main import main

__all__ = ["main"]
