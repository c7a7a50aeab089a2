"""What is wrong with a JSON or TOML text, in a user's words: msgspec names Python's types and JSONPaths."""

import re

_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}
_WRONG_TYPE = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<found>[^`]*)`")
_WRONG_RANGE = re.compile(r"Expected `(?P<wanted>\w+)` (?P<bound>[<>]=? .*)")
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`")
_NO_CHOICE = re.compile(r"Invalid enum value (?P<value>.*)")


def in_words(error: Exception) -> str:
    """Of a text that could not be decoded: the field, as in `disks[0].writable`, and what it must be."""
    text, _, where = str(error).partition(" - at `$")
    field = where.removesuffix("`").removeprefix(".")
    subject = field or "it"
    if match := _WRONG_TYPE.fullmatch(text):
        return f"{subject} must be {_named(match['wanted'])}, not {_named(match['found'])}"
    if match := _WRONG_RANGE.fullmatch(text):
        return f"{subject} must be {_named(match['wanted'])} {match['bound']}"
    if match := _MISSING.fullmatch(text):
        return f"{_below(field, match['field'])} is missing"
    if match := _UNKNOWN.fullmatch(text):
        return f"{_below(field, match['field'])} is no known field"
    if match := _NO_CHOICE.fullmatch(text):
        return f"{subject} cannot be {match['value']}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if text == "Input data was truncated":
        return "it is no JSON, or a part is missing at the end"
    return f"{field}: {text}" if field else text


def _named(types: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types.split(" | "))


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
