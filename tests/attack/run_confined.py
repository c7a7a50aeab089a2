"""Runs tests/attack/attacker.py confined: `run_confined.py FILTER PID FILE`. Writes what it says to standard output."""

import os
import sys
from pathlib import Path

from avf.confine import Box, Filter, Limits, explain_confinement, python_needs, spawn

ATTACKER = Path(__file__).with_name("attacker.py")
OWN_UID = 0x7000_0000 + 2048


def main(kind: str, process: str, file: str) -> None:
    """Prints the level, and then the attacker's report."""
    python = os.path.realpath(sys.executable)
    box = Box(
        Filter(kind),
        Limits(256, 1 << 20),
        tuple(python_needs(ATTACKER)),
        devices=(Path("/dev/null"),),
        listed=(ATTACKER.parent,),
        uid=OWN_UID,
    )
    secret = os.open(file, os.O_RDONLY)
    read_end, write_end = os.pipe()
    command = [python, "-I", "-S", str(ATTACKER), process, file]
    child = spawn(command, fds=[secret], stderr=write_end, box=box)
    os.close(write_end)
    with open(read_end) as report:
        text = report.read()
    print(explain_confinement().level.value, child.reap(), text)


if __name__ == "__main__":
    main(*sys.argv[1:])
