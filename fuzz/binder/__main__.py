"""Run one target under atheris; see the package."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["avf.binder"]):
    from fuzz.binder import targets
    from fuzz.binder.seeds import seeds


def main() -> None:
    """The fuzzer never returns."""
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        sys.exit(
            f"usage: python -m fuzz.binder {{{','.join(targets.TARGETS)}}} [libFuzzer options]"
        )
    name = sys.argv.pop(1)
    found = Path("build/fuzz/binder", name)
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (found / f"seed-{number}").write_bytes(seed)
    folders = [str(found), str(Path(__file__).parent / "corpus" / name)]
    options = ["-max_len=65536", "-rss_limit_mb=512", "-timeout=10", *sys.argv[1:]]

    def one_input(data: bytes) -> None:
        targets.run(name, data)

    atheris.Setup([sys.argv[0], *options, *folders], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
