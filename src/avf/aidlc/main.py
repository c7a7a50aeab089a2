"""The command `avf-aidl`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avf.arguments import ArgumentParser
from avf.causes import words
from avf.overwriting import Kind, foreign
from avf.printable import printable

from .compiler import Compiled, compile_modules
from .errors import AidlError, Diagnostic, Diagnostics
from .files import FileLoader, Output, depfile_text, expand, replace_text
from .parser import parse
from .plan import Modules, Options
from .source import Source

_EPILOG = """\
A package becomes the Python package of its name: android.os is OUT/android/os. With --map android.os=my.os it is
OUT/my/os; what begins with android.os. follows. Each type has a module in it, so runs may give any of a package's
files. Types that the given files mention are written as well, unless their package is --external, that is, there
already. @FILE stands for the arguments in FILE, one a line.
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
    add("-o", "--output", required=True, type=Path, metavar="OUT", help="where packages go")
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
        metavar="PACKAGE=PYTHON",
        help="what a package and those below it are in Python",
    )
    add(
        "--external",
        action="append",
        default=[],
        type=_pair,
        metavar="PACKAGE=PYTHON",
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
    add(
        "--depfile",
        type=Path,
        metavar="D",
        help="write there, for make, what the output is made of",
    )
    add("--check", action="store_true", help="write nothing; fail if something would change")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    output = Output(args.output)
    options = Options(
        Modules(dict(args.map), dict(args.external)),
        dict(args.type),
        args.version,
        args.hash or "",
        output.known,
    )
    try:
        compiled = _compile(args.files, args.include, options)
        if args.check:
            return _report(output.changes(compiled.modules))
        output.write(compiled.modules)
        if args.depfile is not None:
            _write_depfile(args.depfile, output, compiled)
    except AidlError as error:
        print(error, file=sys.stderr)
        count = len(error.diagnostics)
        more = "; the run ended there, there are more" if error.more else ""
        print(f"{count} error{'s' if count > 1 else ''}{more}", file=sys.stderr)
        return 1
    except OSError as error:
        print(printable(f"error: {words(error)}"), file=sys.stderr)
        return 1
    return 0


def _compile(files: list[Path], include: list[Path], options: Options) -> Compiled:
    for directory in include:
        if not directory.is_dir():
            raise AidlError([Diagnostic(f"{directory}: no such directory")])
    loader = FileLoader(include)
    sources: list[Source] = []
    for path in expand(files):
        source = loader.read(path)
        sources.append(source)
        loader.add_root_of(path, _package(source))
    return compile_modules(sources, loader, options)


def _package(source: Source) -> str:
    """The package a file names; what is wrong in the file is told later."""
    try:
        package = parse(source, Diagnostics()).package
    except AidlError:
        return ""
    return package.text if package else ""


def _report(changes: dict[Path, str | None]) -> int:
    for path, text in changes.items():
        what = "is out of date" if text is not None else "is of version 0.1 and in the way"
        print(printable(f"{path} {what}"), file=sys.stderr)
    return 1 if changes else 0


def _write_depfile(path: Path, output: Output, compiled: Compiled) -> None:
    targets = [output.path(module.name) for module in compiled.modules]
    targets += [output.init(name) for name in sorted({m.package for m in compiled.modules})]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with open(path, "rb") as file:
            found = foreign(file.fileno(), Kind.DEPFILE)
        if found is not None:
            raise AidlError([Diagnostic(f"{path} is in the way: it is no rule of make; {found}")])
    replace_text(path, depfile_text(targets, compiled.inputs))
