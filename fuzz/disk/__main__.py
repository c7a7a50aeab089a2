"""Run one target under atheris; see the package."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["avf.disk"]):
    from fuzz.disk import targets
    from fuzz.disk.seeds import seeds


def main() -> None:
    """The fuzzer never returns."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(f"usage: python -m fuzz.disk {{{','.join(targets.TARGETS)}}} [libFuzzer options]")
    name = sys.argv.pop(1)
    found = Path("build/fuzz/disk", name)
    kept = Path(__file__).parent / "corpus" / name
    for folder in (found, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (found / f"seed-{number}").write_bytes(seed)
    options = ["-max_len=65536", "-rss_limit_mb=512", "-timeout=10", *sys.argv[1:]]

    def one_input(data: bytes) -> None:
        targets.run(name, data)

    atheris.Setup([sys.argv[0], *options, str(found), str(kept)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
