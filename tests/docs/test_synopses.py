"""What pages, help texts and manual pages say of the commands' words is what the parsers take, both ways round."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import click
import pytest

from avf.cli import man
from avf.cli.command import vm
from avf.cli.described import Described, described
from tests.docs.samples import ROOT

PAGE = (ROOT / "docs/vm-command.md").read_text()
TEXTS = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
COMMANDS = {command.path: command for command in described()}
GROUPS = {path for path, command in COMMANDS.items() if command.commands} - {"vm"}
OTHER_NAMES = {
    ("vm run-app", "APK"): "SOURCE",
    ("vm run", "CONFIG.json"): "CONFIG",
    ("vm tombstones show", "N"): "NUMBER",
}
"""Words of the page for arguments that the parser calls otherwise."""
_ARGUMENT = re.compile(r"(--\s+)?([A-Z][A-Za-z]*(?:\.json)?)(\.\.\.)?")


@dataclass(frozen=True)
class Argument:
    name: str
    optional: bool
    repeated: bool


@dataclass(frozen=True)
class Synopsis:
    path: str
    options: dict[str, str]
    """As written: what is behind each on its own, "" for a flag."""
    arguments: tuple[Argument, ...]


@cache
def parser(path: str) -> click.Command:
    command: click.Command = vm
    for word in path.split()[1:]:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


@cache
def options(path: str) -> dict[str, click.Option]:
    """Each name of each option; those of the group above count for no command."""
    found = [p for p in parser(path).params if isinstance(p, click.Option)]
    return {name: option for option in found for name in (*option.opts, *option.secondary_opts)}


def read(text: str) -> Iterator[Synopsis]:
    """`vm template list|build|rm` is three; a word in brackets, as of `vm tombstones [list|show N]`, is one as well."""
    words = text.split()[1:]
    path, rest = f"vm {words[0]}", text.split(maxsplit=2)[2:]
    line = rest[0] if rest else ""
    if path not in GROUPS:
        yield parsed(path, line)
        return
    choice = re.match(r"\[?((?:[a-z]+(?: [A-Z]+)?\|?)+)\]?", line)
    assert choice, text
    for each in choice[1].split("|"):
        child, _, arguments = each.strip().partition(" ")
        yield parsed(f"{path} {child}", f"{arguments} {line[choice.end() :]}")


def parsed(path: str, line: str) -> Synopsis:
    found = re.findall(r"\[(--?[a-z][\w-]*)((?: [^\]]+)?)\]", line)
    without = re.sub(r"\[--?[a-z][^\]]*\]", "", line)
    arguments = []
    depth = 0
    for part in re.findall(r"\[|\]|[^\[\]]+", re.sub(r"\]\.\.\.", "...]", without)):
        depth += {"[": 1, "]": -1}.get(part, 0)
        for after, name, dots in _ARGUMENT.findall(part):
            shown = OTHER_NAMES.get((path, name), name)
            arguments.append(Argument(f"{after.strip()}{shown}", depth > 0, bool(dots)))
    return Synopsis(path, {name: value.strip() for name, value in found}, tuple(arguments))


def synopses() -> list[Synopsis]:
    cells = re.findall(r"^\| (`vm .+?`.*?) (?<!\\)\| ", PAGE, re.MULTILINE)
    texts = [text.replace("\\|", "|") for cell in cells for text in re.findall(r"`(vm .+?)`", cell)]
    named = {path for path in COMMANDS if path not in GROUPS and path != "vm" and own(path)}
    return [found for text in texts if text not in named for found in read(text)]


def own(path: str) -> tuple[Argument, ...]:
    """The arguments as the parser's usage has them."""
    return parsed(path, COMMANDS[path].usage.removeprefix("[OPTIONS]")).arguments


def sections(path: str) -> str:
    """All of the page that is about a command: its heading, or a word of it, names the command."""
    parts = re.split(r"^(?=## )", PAGE, flags=re.MULTILINE)
    word = path.removeprefix("vm ")
    return "\n".join(
        part
        for part in parts[1:]
        if re.search(rf"`{word}`|`vm {word}\b|^## .*\b{word}\b|^vm {word}\b", part, re.MULTILINE)
        or (word in ("run", "start", "run-microdroid") and part.startswith("## run-app"))
    )


SYNOPSES = synopses()


def test_synopses_are_found() -> None:
    assert len(SYNOPSES) > 35


@pytest.mark.parametrize("synopsis", SYNOPSES, ids=lambda each: each.path)
def test_a_synopsis_is_what_the_parser_takes(synopsis: Synopsis) -> None:
    known = options(synopsis.path)
    for name, value in synopsis.options.items():
        assert name in known, f"{synopsis.path} has no {name}"
        assert bool(value) is not known[name].is_flag, name
        kind = known[name].type
        if "|" in value and isinstance(kind, click.Choice):
            assert value.split("|") == list(kind.choices), name
    wanted = own(synopsis.path)
    if synopsis.path == "vm completion":
        assert "bash|zsh|fish" in COMMANDS["vm completion"].usage
    elif synopsis.path == "vm pool run":
        assert [argument.name for argument in synopsis.arguments] == ["COMMAND"]
    else:
        assert [a for a in wanted if not a.optional] == [
            a for a in synopsis.arguments if not a.optional
        ]
        assert set(synopsis.arguments) <= set(wanted)


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - GROUPS - {"vm"}))
def test_every_word_of_a_parser_is_on_the_page(path: str) -> None:
    mine = [synopsis for synopsis in SYNOPSES if synopsis.path == path]
    shown = {argument for synopsis in mine for argument in synopsis.arguments}
    if path not in ("vm completion", "vm pool run"):
        assert shown >= set(own(path)), path
    assert mine, f"{path} is not on the page"
    told = {name for synopsis in mine for name in synopsis.options}
    text = sections(path)
    for option in set(options(path).values()):
        if not told & set(option.opts):
            assert any(re.search(rf"`[^`\n]*{re.escape(n)}\b", text) for n in option.opts), (
                f"{path} {option.opts}"
            )


@cache
def manual_pages() -> dict[str, str]:
    return dict(man.pages("1"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_the_manual_page_has_every_word(command: Described) -> None:
    page = manual_pages()[command.name].replace("\\-", "-").replace("\\", "")
    for option in options(command.path).values():
        assert all(name in page for name in option.opts)
    for argument in own(command.path):
        assert argument.name.removeprefix("--") in page


def typed() -> Iterator[tuple[str, str]]:
    """(place, words behind `vm`) of all commands in texts, in help texts, and in the examples of these."""
    for path in TEXTS:
        text = path.read_text()
        found = re.findall(r"^(?:\$ )?vm ([a-z].*)$", text, re.MULTILINE)
        found += re.findall(r"`vm ([a-z][^`]*)`", text)
        yield from ((path.name, words.replace("\\|", "|")) for words in found)
    for command in COMMANDS.values():
        for text in (*command.paragraphs, *command.options.values(), *command.examples):
            for words in re.findall(r"(?:^|`|  )vm ([a-z][^`\n]*)", text):
                yield command.path, words


def test_every_option_that_a_text_shows_exists() -> None:
    wrong = []
    checked = 0
    for place, words in typed():
        line = re.split(r"\s--(?:\s|$)|\s+#|\s[;&|]", f"{words} ")[0].split()
        path = f"vm {line[0]}"
        if len(line) > 1 and f"{path} {line[1]}" in COMMANDS:
            path = f"{path} {line[1]}"
        if path not in COMMANDS:
            wrong.append(f"{place}: vm {words}")
            continue
        for word in line[len(path.split()) - 1 :]:
            name = word.strip("[],;.:)").partition("=")[0]
            if path in ("vm shell", "vm pool run") and not name.startswith("-"):
                break
            if re.fullmatch(r"--?[a-z][\w-]*", name) and name != "--help":
                checked += 1
                if name not in options(path) and not clustered(path, name):
                    wrong.append(f"{place}: vm {words}: {name}")
    assert checked > 100
    assert wrong == []


def clustered(path: str, name: str) -> bool:
    """`-n4`, or `-fv` for two."""
    return not name.startswith("--") and f"-{name[1]}" in options(path)


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("virtualizationservice.md", "avf.virtualizationservice.options"),
        ("avf-aidl.md", "avf.aidlc.main"),
    ],
)
def test_tables_of_options_of_other_programs(page: str, module: str) -> None:
    """Each option of the parser is in a table of the page, and each option of the tables is the parser's."""
    actions = importlib.import_module(module)._parser()._actions
    known = {name for action in actions for name in action.option_strings} - {"-h", "--help"}
    text = (ROOT / "docs" / page).read_text()
    cells = "".join(re.findall(r"^\| (`-.*?`) \|", text, re.MULTILINE))
    shown = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", cells))
    assert shown - known == set()
    assert [
        action.option_strings
        for action in actions
        if set(action.option_strings) & known and not shown & set(action.option_strings)
    ] == []


def test_a_wrong_synopsis_is_found() -> None:
    synopsis = parsed("vm push", "[--root] [-t a|b] VM LOCAL... [REMOTE]")
    assert synopsis.options == {"--root": "", "-t": "a|b"}
    assert synopsis.arguments == (
        Argument("VM", False, False),
        Argument("LOCAL", False, True),
        Argument("REMOTE", True, False),
    )
    assert [each.path for each in read("vm template list|rm KEY")] == [
        "vm template list",
        "vm template rm",
    ]
