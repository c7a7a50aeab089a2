"""`payload.toml`: what a project says of itself. Every key may be left out."""

import re
import tomllib
from pathlib import Path

import msgspec

from avf.decoding import in_words
from avf.project.errors import ProjectError

NAME = "payload.toml"
_MAX_SIZE = 64 << 10
_MAX_VERSION = (1 << 31) - 1
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one project."""

    main: str | None = None
    """The file that is the payload, at the top of the folder."""
    package: str | None = None
    """As of an Android app, such as org.example.greeter: part of the payload's identity."""
    version: int = 1
    """An instance takes later versions and this one, never an earlier one."""


def load(folder: Path) -> Settings:
    """Raises ProjectError."""
    path = folder / NAME
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}") from error
    if len(content) > _MAX_SIZE:
        raise ProjectError(f"{path}: longer than {_MAX_SIZE} bytes")
    try:
        settings = msgspec.convert(tomllib.loads(content.decode()), Settings)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise ProjectError(f"{path}: {in_words(error)}", "correct that file") from None
    _check(path, settings)
    return settings


def _check(path: Path, settings: Settings) -> None:
    if settings.main is not None and (not settings.main or "/" in settings.main):
        raise ProjectError(f"{path}: main must name a file at the top of the folder")
    if settings.package is not None:
        check_package(settings.package, f"{path}: package")
    check_version(settings.version, f"{path}: version")


def check_package(package: str, what: str) -> None:
    """Raises ProjectError."""
    if not _PACKAGE.fullmatch(package):
        raise ProjectError(f"{what} {package!r} is none; it looks like org.example.greeter")


def check_version(version: int, what: str) -> None:
    """Raises ProjectError."""
    if not 1 <= version <= _MAX_VERSION:
        raise ProjectError(
            f"{what} must be from 1 to {_MAX_VERSION}, not {version}", "correct the version"
        )


def package_for(name: str) -> str:
    """A package for a source that names none: the same for the same name."""
    word = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return f"avf.local.{word if word[:1].isalpha() else f'p_{word}'}"
