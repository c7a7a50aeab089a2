"""`python -m fuzz PACKAGE TARGET [libFuzzer options]`: run one target under atheris until it finds something.

Each package beside this file has `targets.TARGETS`, `targets.run(target, data)` and `seeds.seeds()`.
"""

import sys
from importlib import import_module
from pathlib import Path

import atheris

HERE = Path(__file__).parent
PACKAGES = sorted(path.parent.name for path in HERE.glob("*/targets.py"))


def main() -> None:
    """The fuzzer never returns."""
    if len(sys.argv) < 2 or sys.argv[1] not in PACKAGES:
        sys.exit(f"usage: python -m fuzz {{{','.join(PACKAGES)}}} TARGET [libFuzzer options]")
    package = sys.argv.pop(1)
    with atheris.instrument_imports(include=[f"avf.{package}", "avf.proto3"]):
        targets = import_module(f"fuzz.{package}.targets")
        seeds = import_module(f"fuzz.{package}.seeds").seeds()
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: python -m fuzz {package} {{{','.join(targets.TARGETS)}}} [options]")
    name = sys.argv.pop(1)
    found = Path("build/fuzz", package, name)
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds[name]):
        (found / f"seed-{number}").write_bytes(seed)
    options = [
        *("-max_len=65536", "-rss_limit_mb=512", "-timeout=10"),
        *(f"-artifact_prefix={found.parent}/{name}-", *sys.argv[1:]),
    ]

    def one_input(data: bytes) -> None:
        targets.run(name, data)

    folders = [str(found), str(HERE / package / "corpus" / name)]
    atheris.Setup([sys.argv[0], *options, *folders], one_input)
    atheris.Fuzz()


main()
