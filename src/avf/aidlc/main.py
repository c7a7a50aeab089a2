"""The command `avf-aidl`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avf.arguments import ArgumentParser
from avf.printable import printable

from .compiler import compile_sources
from .errors import AidlError, Diagnostic, Diagnostics
from .files import FileLoader, Output, expand
from .parser import parse
from .plan import Modules, Options
from .source import Source

_EPILOG = """\
A package becomes the module of its name: android.os is OUT/android/os.py. With --map android.os=my.os it is
OUT/my/os.py; what begins with android.os. follows. Types that the given files mention are written as well, unless
their package is --external, that is in its module already. @FILE stands for the arguments in FILE, one a line.
Exit status: 0 done, 1 errors or --check found differences, 2 wrong usage.
"""


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not all(part.isidentifier() for part in value.split(".")):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=PYTHON_NAME")
    return key, value


def _version(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"'{text}' is no version: they count from 1")
    return int(text)


def _hash(text: str) -> str:
    if not text.isascii() or not text.isalnum():
        raise argparse.ArgumentTypeError(f"'{text}' is no hash")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="avf-aidl",
        description="Compiles AIDL to typed Python for avf.binder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help=".aidl files, or directories of them")
    add("-o", "--output", required=True, type=Path, metavar="OUT", help="where modules go")
    add(
        "-I",
        "--include",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="look for imports here",
    )
    add(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar="PACKAGE=MODULE",
        help="what module a package and those below it are",
    )
    add(
        "--external",
        action="append",
        default=[],
        type=_pair,
        metavar="PACKAGE=MODULE",
        help="the same for packages that are there and must not be written",
    )
    add(
        "--type",
        action="append",
        default=[],
        type=_pair,
        metavar="TYPE=MODULE.CLASS",
        help="the Python class of a parcelable that has no fields in AIDL",
    )
    add("--version", type=_version, default=0, metavar="N", help="of the interfaces in FILE")
    add("--hash", type=_hash, default=None, metavar="H", help="of the interfaces in FILE")
    add("--check", action="store_true", help="write nothing; fail if something would change")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    options = Options(
        Modules(dict(args.map), dict(args.external)), dict(args.type), args.version, args.hash or ""
    )
    try:
        texts = _compile(args.files, args.include, options)
        output = Output(args.output, texts)
        changed = [module for module in texts if _differs(output, module, texts[module])]
        if args.check:
            return _report(output, changed)
        for module in changed:
            _write(output, module, texts[module])
    except AidlError as error:
        print(error, file=sys.stderr)
        count = len(error.diagnostics)
        more = "; the run ended there, there are more" if error.more else ""
        print(f"{count} error{'s' if count > 1 else ''}{more}", file=sys.stderr)
        return 1
    except OSError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    return 0


def _compile(files: list[Path], include: list[Path], options: Options) -> dict[str, str]:
    for directory in include:
        if not directory.is_dir():
            raise AidlError([Diagnostic(f"{directory}: no such directory")])
    loader = FileLoader(include)
    sources: list[Source] = []
    for path in expand(files):
        source = loader.read(path)
        sources.append(source)
        loader.add_root_of(path, _package(source))
    return compile_sources(sources, loader, options)


def _package(source: Source) -> str:
    """The package a file names; what is wrong in the file is told later."""
    try:
        package = parse(source, Diagnostics()).package
    except AidlError:
        return ""
    return package.text if package else ""


def _differs(output: Output, module: str, text: str) -> bool:
    path = output.path(module)
    if output.stale(module) is not None or not path.is_file():
        return True
    return path.read_bytes() != text.encode()


def _report(output: Output, changed: list[str]) -> int:
    for module in changed:
        print(printable(f"{output.path(module)} is out of date"), file=sys.stderr)
    return 1 if changed else 0


def _write(output: Output, module: str, text: str) -> None:
    path = output.path(module)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (stale := output.stale(module)) is not None:
        stale.unlink()
    path.write_text(text, encoding="utf-8")
