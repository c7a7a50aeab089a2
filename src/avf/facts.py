"""Findings about this host that hold until the next boot, kept in the runtime directory."""

import contextlib
import json
import os
from pathlib import Path

from avf.runtime import user_runtime_dir

_NAME = "host-facts.json"
_MAX_SIZE = 1 << 16


def recall(key: str) -> object:
    """What `remember` stored under `key` since the last boot, or None."""
    facts = _load()
    return facts.get(key)


def remember(key: str, value: object) -> None:
    """Stores `value` (as JSON can hold it); a failure only means that it will be found out again."""
    with contextlib.suppress(OSError):
        path = user_runtime_dir() / _NAME
        temporary = path.with_name(f"{_NAME}.{os.getpid()}")
        facts = _load() | {"boot": _boot_id(), key: value}
        temporary.write_text(json.dumps(facts))
        temporary.replace(path)


def _load() -> dict[str, object]:
    try:
        with open(user_runtime_dir() / _NAME, encoding="utf-8") as file:
            facts = json.loads(file.read(_MAX_SIZE))
        if isinstance(facts, dict) and facts.get("boot") == _boot_id():
            return facts
    except (OSError, ValueError, RecursionError):
        pass
    return {}


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
