"""Command lines whose words may come from others, as the names of files do where a shell fills them in."""

import argparse
from typing import NoReturn

from avf.printable import printable


class ArgumentParser(argparse.ArgumentParser):
    """One whose errors show no word that does anything to a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))
