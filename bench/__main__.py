"""`python -m bench [NAME ...]`: runs the measurements, prints a table, writes build/bench.json."""

import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

import bench

OUTPUT = Path("build/bench.json")


def main(names: list[str]) -> None:
    names = names or sorted(
        m.name for m in pkgutil.iter_modules(bench.__path__) if m.name[0] != "_"
    )
    os.environ.setdefault("AVF_WARM", "off")  # what measures clones says so
    figures: dict[str, float] = {}
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures |= importlib.import_module(f"bench.{name}").run()
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    width = max(map(len, figures))
    for key, value in sorted(figures.items()):
        print(f"{key:{width}}  {value:>14,.3f}")


main(sys.argv[1:])
