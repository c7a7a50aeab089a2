"""Programs that an ordinary user's PATH does not find on Debian."""

import os
import shutil

FOR_ROOT = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Where programs for root are; ordinary users may run most of them by their paths."""


def hide_those_for_root() -> None:
    """Tests that root runs find the same programs by name as those that an ordinary user runs."""
    folders = os.environ["PATH"].split(":")
    os.environ["PATH"] = ":".join(folder for folder in folders if folder not in FOR_ROOT)


def path_of(name: str) -> str:
    """The path of a program, wherever it is; FileNotFoundError if it is not installed."""
    if found := shutil.which(name, path=":".join((os.environ["PATH"], *FOR_ROOT))):
        return found
    raise FileNotFoundError(f"{name} is not installed")
