"""docs/troubleshooting.md: each error that it lists exists, and none that a user can meet is missing."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from avf.cli import remedies as cli_remedies
from avf.client import DeathReason, ErrorCode, Refusal, errors, remedies
from avf.image.errors import ImageError, PackageError

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "avf"
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SECTIONS = dict(re.findall(r"^### (.*?)$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
MET = (
    "settings.py",
    "cli",
    "client",
    "confine",
    "image",
    "project",
    "virtmgr",
    "vmm/accel.py",
    "vmm/qemu/vmm.py",
)
"""Files and folders with errors that users meet at the terminal; all of them are in the tables."""
ENOENT = "No such file or directory"
RAISING = re.compile(
    r"\w*(Error|Unavailable|_unusable|_wrong|failure|failure_from|Failed|Missing|Gone|Closed|fail)"
)
"""Calls that make errors, besides those behind `raise`."""
NOT_MET = {
    "virtmgr/main.py": "arguments of virtmgr, which a client gives",
    "virtmgr/rsp.py": "told to a debugger",
    "virtmgr/timeline.py": "what is wrong with a guest's report; it is left out",
    "virtmgr/clone_maker.py": "the VM boots by itself instead",
    "virtmgr/warm.py": "the VM boots by itself instead",
}
"""Files whose errors users do not meet, and why."""
OF_PROGRAMS = {"ValueError", "TypeError", "AttributeError", "TimeoutError", "NotImplementedError"}
"""Mistakes in a program that calls, and causes that an error with words of its own tells."""
NOT_TOLD = {
    **dict.fromkeys(
        (
            "a positive number of seconds",
            "a command",
            "an absolute path",
            "a command as a shell takes it (…)",
            "True or False",
            "a whole number… from … to …",
            "one of …",
            "a path or an open file",
            "a path or an open file, not an empty text",
            "a list",
            "a dict",
        ),
        "behind 'must be', which has a row",
    ),
    **dict.fromkeys(
        (
            "service.log in the runtime directory may say more",
            "AVF_LOG=debug vm run-microdroid -v shows more",
            "choose another name",
            "correct that file",
            "correct the version",
        ),
        "says what to try",
    ),
    **dict.fromkeys(
        (
            "Failed to create VM",
            "Failed to start VM",
            "Failed to clone VM",
            "… has no MemAvailable",
            "virtmgr …",
            "not a regular file",
        ),
        "a cause follows",
    ),
    **dict.fromkeys(
        ("nobody waits for it any more", "the command was left", "the VM with CID … was closed"),
        "of a program, which closed it itself",
    ),
    **dict.fromkeys(
        (
            "a VM has one instance",
            "the payload has been started",
            "Invalid payload state transition from … to …",
            "this VM has no instance",
            "…: the payload has been started",
        ),
        "told to the guest",
    ),
    **dict.fromkeys(
        (
            "Failed to parse CPU topology value: …",
            "apk is missing",
            "payload: …",
            "an argument contains NUL",
        ),
        "only a hand-made client can bring it up",
    ),
    "too many debuggers wait at the gdb server": "told to a debugger",
    "no virtualizationservice takes memory dumps": "the dump is left out, which the log says",
    "unsupported debug level …": "AIDL allows no other",
    "… is missing": "AppConfig cannot leave it out",
    'Unknown OS "…"': "only a hand-made client can ask for another",
    "QEMU runs no protected VMs": "refused before, when the VM is created",
    "neither a kernel nor a bootloader is given": "likewise",
    "QEMU cannot use …": "there is no third kind of vsock",
    "… disks; QEMU takes …": "says all",
    "Invalid memory trim level …": "says all",
    "virtualizationservice does not answer … calls": "says all",
    "virtualizationservice at … does not answer": "says all",
    "no virtualizationservice can be started: …": "the cause is a row of its own",
    "somebody has held …/start.lock for … s and started no virtualizationservice": "says all",
}
"""Texts that need no row, and why."""


@cache
def rows() -> list[str]:
    """The errors of the tables, as they are written there. A row may have several that have one remedy."""
    lines = "\n".join(text for name, text in SECTIONS.items() if name != "How a VM ended")
    cells = re.findall(r"^\| (`.+?`) \| .+ \| .+ \|$", lines, re.MULTILINE)
    return [error for cell in cells for error in re.findall(r"`(.+?)`", cell)]


def template(node: ast.AST) -> str | None:
    """A text in the sources with … for what it puts in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{template(left) or '…'}{template(right) or '…'}"
    return None


def templates(paths: Iterator[Path]) -> Iterator[str]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if text := template(node):
                yield text


@cache
def pattern(text: str) -> re.Pattern[str]:
    """`…` stands for anything, of a template too."""
    return re.compile(".*".join(map(re.escape, text.split("…"))), re.DOTALL)


def test_there_are_tables() -> None:
    assert len(rows()) > 60
    assert len(set(rows())) == len(rows())


@pytest.fixture(scope="module")
def all_templates() -> set[str]:
    return set(templates(SOURCES.rglob("*.py")))


@pytest.fixture(scope="module")
def searched(all_templates: set[str]) -> str:
    """Each on a line of its own."""
    return "\n".join(text.replace("\n", " ") for text in all_templates)


@pytest.mark.parametrize("row", rows())
def test_an_error_of_the_tables_exists(row: str, searched: str) -> None:
    """With words of its own, so that it could be found by searching for them."""
    words = [part for part in row.split("…") if len(part.strip()) > 3]
    assert words, "nothing but …"
    wanted = ".*".join(map(re.escape, row.strip("…").split("…")))
    assert re.search(wanted, searched) or all(part.strip(" :;,") in searched for part in words)


def test_no_error_is_missing() -> None:
    missing = [
        f"{path.relative_to(SOURCES)}: {text}"
        for path in met()
        for text in raised_in(path)
        if text not in NOT_TOLD and not any(is_found(text, row) for row in rows())
    ]
    assert missing == []


def is_found(text: str, row: str) -> bool:
    """The row has at least half of the letters of the text, so that it is not found by chance."""
    whole = f"AVF_{text}" if row.startswith("AVF_…") else text
    return bool(pattern(row).search(whole)) and 2 * letters(row) >= letters(text)


def letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def met() -> Iterator[Path]:
    for name in MET:
        path = SOURCES / name
        for each in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            if str(each.relative_to(SOURCES)) not in NOT_MET:
                yield each


def raised_in(path: Path) -> Iterator[str]:
    """Texts of errors with words of their own: those around a cause alone have none."""
    tree = ast.parse(path.read_text())
    raised = {id(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (id(node) in raised or makes_an_error(node.func)):
            if name_of(node.func) in OF_PROGRAMS:
                continue
            for each in (*node.args, *(keyword.value for keyword in node.keywords)):
                text = template(each)
                if text and re.search(r"[A-Za-z]{3,}.*\s.*|\s.*[A-Za-z]{3,}", text):
                    yield text
                    break


def makes_an_error(function: ast.expr) -> bool:
    return RAISING.fullmatch(name_of(function)) is not None


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_what_needs_no_row_exists(all_templates: set[str]) -> None:
    assert NOT_TOLD.keys() <= all_templates


SELF_EVIDENT = (
    "correct",
    "likewise",
    "as for the cause",
    "open it",
    "open the file",
    "give what is asked",
    "take it out",
    "another folder",
    "make room on",
    "make its folder",
    "export the VM again",
    "install",
    "as it says",
)
"""How advice begins that the error itself gives, or its cause."""


WITH_A_CLASS_OR_CODE = {"does not have the … permission", "virtmgr … it said:"}
"""Errors that have advice by their code (SECURITY), or by their class (ServiceError)."""


def advised() -> Iterator[tuple[str, str]]:
    """Each error of the tables, with what to do about it."""
    for line in PAGE.splitlines():
        if found := re.fullmatch(r"\| (`.+?`) \| .+ \| (.+) \|", line):
            for row in set(re.findall(r"`(.+?)`", found[1])) & set(rows()):
                yield row, found[2]


@pytest.fixture(scope="module")
def with_a_remedy_of_their_own() -> set[str]:
    """Texts of errors that are made with advice, or whose class has one."""
    errors = ImageError.__subclasses__() + PackageError.__subclasses__()
    classes = {"UsageError", "fail", "NoSuchVm", "ServiceError", "ServiceStartError", "TarError"}
    classes |= {error.__name__ for error in errors if error.remedy}
    advising = {"CliError", "ProjectError", "ImageError"}
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and (text := template(node.args[0])):
                has_advice = len(node.args) + len(node.keywords) > 1
                name = name_of(node.func)
                if name in classes or (name in advising and has_advice):
                    found.add(text)
    return found


def test_what_the_page_advises_is_said_at_the_terminal(
    with_a_remedy_of_their_own: set[str],
) -> None:
    lacking = [
        row
        for row, advice in advised()
        if not advice.startswith(SELF_EVIDENT)
        and row not in WITH_A_CLASS_OR_CODE
        and not any(
            remedy(row.replace("…", value))
            for value in ("7", "/dev/vhost-vsock")
            for remedy in (remedies.remedy_for, remedies.guest_remedy_for, cli_remedies.remedy_for)
        )
        and not any(is_found(text, row) for text in with_a_remedy_of_their_own)
    ]
    assert lacking == []


def test_every_named_code_is_described() -> None:
    for refusal in Refusal:
        assert f"| `{refusal.name}` |" in PAGE
    for reason in DeathReason:
        assert f"`{reason}`" in SECTIONS["How a VM ended"], reason
    assert ErrorCode.PAYLOAD_CHANGED in ErrorCode


def test_every_class_of_error_is_in_the_tree() -> None:
    """Whoever reads help(avf.client.errors) sees all of them."""
    assert errors.__doc__ is not None
    for name, item in vars(errors).items():
        if isinstance(item, type) and issubclass(item, errors.ClientError):
            assert re.search(rf"\b{name}\b", errors.__doc__), name


@pytest.mark.parametrize(
    ("expression", "remedy"),
    [*remedies.REMEDIES, *remedies.GUEST_REMEDIES, *cli_remedies.REMEDIES],
    ids=lambda text: text,
)
def test_a_remedy_is_for_an_error_that_exists(
    expression: str, remedy: str, all_templates: set[str]
) -> None:
    system = {"No space left on device", "Too many open files", "File exists", ENOENT}
    texts = all_templates | set(rows()) | system | {"AVF_X is 'y'; it must be z"}
    filled = [
        text.replace("…", value)
        for text in texts
        for value in ("7", "/dev/vhost-vsock", "/mnt/apk", "out of memory, SIGKILL", *system)
    ]
    assert any(re.search(expression, text) for text in filled)
    assert remedy.strip()


def test_what_a_guest_says_cannot_choose_the_advice() -> None:
    """Advice for the host's own errors may change the host: a guest must not bring it up."""
    for text in ("x is not installed (Debian package qemu-system-x86)", "Mode 7 is not allowed"):
        assert remedies.remedy_for(text)
        assert remedies.guest_remedy_for(text) == ""
    assert not any("sudo" in remedy for _, remedy in remedies.GUEST_REMEDIES)
