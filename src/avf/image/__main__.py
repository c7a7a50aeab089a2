"""`python -m avf.image build`: builds the guest image."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from avf.arguments import ArgumentParser
from avf.causes import words
from avf.image.build import build_image, default_cache, default_output
from avf.image.errors import ImageError
from avf.printable import printable, printable_lines


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with _told(quiet=options.quiet) as progress:
            image = build_image(
                options.output,
                cache=options.cache,
                update=options.update,
                own_kernel=options.own_kernel,
                progress=progress,
            )
    except (ImageError, OSError) as error:
        print(printable_lines(f"error: {words(error)}"), file=sys.stderr)
        if isinstance(error, ImageError) and error.remedy:
            print(f"  try: {error.remedy}", file=sys.stderr)
        return 1
    if options.quiet:
        return 0
    initrds = (image.initrd_normal, image.initrd_debuggable)
    for path in (image.config, image.kernel, *initrds, image.system):
        print(f"{path.stat().st_size / (1 << 20):7.1f} MiB  {printable(str(path))}")
    return 0


@contextmanager
def _told(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Tells each step and when it began on standard error. A terminal shows the last one as it goes on; with `quiet`
    it is all that is shown, and nothing of it stays."""
    started = time.monotonic()

    def line(step: str) -> str:
        return f"[{time.monotonic() - started:5.1f}s] {printable(step)}"

    if not sys.stderr.isatty():
        yield lambda step: None if quiet else print(line(step), file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, markup=False)
    with console.status("") as status:

        def show(step: str) -> None:
            if not quiet:
                console.print(line(step))
            status.update(Text(printable(step)))

        yield show


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m avf.image", description="Builds the guest image, without root."
    )
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="build the image")
    build.add_argument("--output", type=Path, default=default_output(), help="default: %(default)s")
    build.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    build.add_argument(
        "--update", action="store_true", help="ask apt for newer packages than the cached ones"
    )
    build.add_argument(
        "--own-kernel",
        action="store_true",
        help="compile a kernel of our own configuration, which boots sooner; takes minutes, once",
    )
    build.add_argument(
        "--quiet", action="store_true", help="write nothing but errors, and the step at a terminal"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
