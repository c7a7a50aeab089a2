"""What to do about an error that users meet: docs/troubleshooting.md has the same as a table."""

import re

REMEDIES: tuple[tuple[str, str], ...] = (
    (r"memoryMib is \d+", "give the VM more memory (`--mem`), or leave that to the image"),
    (r"no guest image|the guest image|microdroid\.json",
     "`vm doctor` says how to get a guest image; `--image` names its folder"),
    (r"the guest has no shell service", "start the VM with `--debug full`, and wait until it has booted"),
)  # fmt: skip
"""Patterns of texts, and what helps; the first that matches counts."""


def remedy_for(text: str) -> str:
    """What helps against an error with that text; empty if that depends."""
    return next((remedy for pattern, remedy in REMEDIES if re.search(pattern, text)), "")
