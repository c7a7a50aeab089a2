"""docs/troubleshooting.md: each error that it lists exists, and none is missing where virtual machines start."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.client import DeathReason, ErrorCode, Refusal, errors, remedies

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "avf"
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SECTIONS = dict(re.findall(r"^### (.*?)$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
START_PATH = (
    "settings.py",
    "virtmgr/app_config.py",
    "virtmgr/global_service.py",
    "virtmgr/locks.py",
    "virtmgr/machine.py",
    "virtmgr/opening.py",
    "virtmgr/virtual_machine.py",
    "vmm/accel.py",
    "vmm/qemu/vmm.py",
)
"""Where errors of a start come from, all of which are in the tables."""
ENOENT = "No such file or directory"
RAISING = {
    "GlobalServiceError", "VirtmgrError", "VmmStartError", "VmmUnavailable", "_StartError", "_unusable", "failure",
    "SettingError",
}  # fmt: skip
NOT_TOLD = {
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


def rows() -> list[str]:
    """The errors of the tables, as they are written there."""
    sections = ("Starting", "Files", "The service", "In the guest")
    lines = "\n".join(SECTIONS[name] for name in sections)
    return re.findall(r"^\| `(.+?)` \| .+ \| .+ \|$", lines, re.MULTILINE)


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


def pattern(text: str) -> re.Pattern[str]:
    """`…` stands for anything, of a template too."""
    return re.compile(".*".join(map(re.escape, text.split("…"))), re.DOTALL)


def test_there_are_tables() -> None:
    assert len(rows()) > 60
    assert len(set(rows())) == len(rows())


@pytest.fixture(scope="module")
def all_templates() -> set[str]:
    return set(templates(SOURCES.rglob("*.py")))


@pytest.mark.parametrize("row", rows())
def test_an_error_of_the_tables_exists(row: str, all_templates: set[str]) -> None:
    """With words of its own, so that it could be found by searching for them."""
    assert re.search(r"[A-Za-z]{2,}.*[A-Za-z]{2,}", row)
    wanted = pattern(row)
    words = [part for part in row.split("…") if len(part.strip()) > 3]
    assert words, "nothing but …"
    found = [text for text in all_templates if wanted.search(text)]
    joined = "\n".join(all_templates)
    assert found or all(part.strip(" :;,") in joined for part in words), row


def test_no_error_of_a_start_is_missing() -> None:
    known = [pattern(row) for row in rows()]
    missing = [
        text
        for path in START_PATH
        for text in raised_in(SOURCES / path)
        if text not in NOT_TOLD
        and not any(row.search(text) or row.search(f"AVF_{text}") for row in known)
    ]
    assert missing == []


def raised_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            text = template(node.args[0])
            if node.func.id in RAISING and text:
                yield text


def test_what_needs_no_row_exists(all_templates: set[str]) -> None:
    assert NOT_TOLD.keys() <= all_templates


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
    ("expression", "remedy"), [*remedies.REMEDIES, *remedies.GUEST_REMEDIES], ids=lambda text: text
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
