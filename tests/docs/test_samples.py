"""Every command and sample of README.md and docs/ is run as it is printed, or says why it cannot be."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.sdk import INCLUDE
from tests.docs.samples import COMMANDS, ROOT, RUN, Sample, pages, read_samples, samples
from tests.docs.terminal import Interpreter, Terminal, shows

SECONDS = 300
"""For one command; a machine that is busy takes long to start a virtual one."""

RUN_ELSEWHERE = {
    "docs/avf-aidl.md": "tests/aidlc/test_guide.py",
    "docs/binder.md": "tests/binder/test_guide.py",
    "docs/testing.md": "tests/plugin/test_plugin.py",
}
"""Pages whose samples are run by tests of their own."""
NOT_RUN = {
    "a synopsis": 5,
    "changes the services of this host": 1,
    "installs packages": 6,
    "make aidl runs it": 1,
    "needs a collector of traces": 1,
    "needs a crash with symbols": 1,
    "needs an installed wheel": 1,
    "needs the Debian package": 1,
    "needs the repository's address": 1,
    "takes ports of this host": 2,
}
"""Why samples are not run, and how many of them. A new reason is a decision: it belongs here."""
CHECKED = {
    "aidl": lambda text: None,
    "c": lambda text: None,
    "json": json.loads,
    "toml": tomllib.loads,
}
"""Languages of samples that are not run by themselves."""

ALL = [sample for page in pages() for sample in samples(page)]


def with_samples() -> list[str]:
    return sorted(
        {s.page for s in ALL if (s.language in RUN or s.name) and not s.not_run}
        - RUN_ELSEWHERE.keys()
    )


class Reader:
    """Does what a page says, one sample after the other, in a folder of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        (self.folder / "examples").symlink_to(ROOT / "examples")
        self._environment = environment(folder)
        self._stack = stack
        self._shell: Terminal | None = None
        self._python: Interpreter | None = None

    def follow(self, sample: Sample) -> None:
        if sample.setup:
            for command in complete_commands(sample.setup):
                self._type(sample, command, "…", must_succeed=True)
        if sample.name:
            path = self.folder / sample.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sample.text)
        elif sample.language == "python":
            self._run_python(sample)
        elif sample.language == "sh":
            for command in complete_commands(sample.text):
                self._type(sample, command, "…", must_succeed=True)
        elif sample.language == "console":
            for command, printed in sample.typed:
                if sample.second_terminal:
                    terminal = Terminal(self.folder, self._environment)
                    self._stack.enter_context(terminal).run_on(command, printed, SECONDS)
                else:
                    self._type(sample, command, printed)

    def _run_python(self, sample: Sample) -> None:
        if self._python is None:
            self._python = self._stack.enter_context(Interpreter(self.folder, self._environment))
        file = self.folder / f"line{sample.line}.py"
        file.write_text(sample.text)
        failed, output = self._python.run(file, SECONDS)
        assert not failed, f"{sample}\n{output}"

    def _type(
        self, sample: Sample, command: str, printed: str, *, must_succeed: bool = False
    ) -> None:
        if self._shell is None:
            self._shell = self._stack.enter_context(Terminal(self.folder, self._environment))
        status, output = self._shell.run(command, SECONDS)
        assert shows(printed, output), f"{sample}: {command}\nprints\n{output}\nand not\n{printed}"
        assert status == 0 or not must_succeed, f"{sample}: {command}\n{output}"


def environment(folder: Path) -> dict[str, str]:
    """As of a user who has installed the package and built an image."""
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    programs = Path(sys.executable).parent
    return kept | {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "AVF_WARM": "on",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(programs.parent),
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
    }


def complete_commands(text: str) -> Iterator[str]:
    """The lines of a script, those together that belong together."""
    gathered = ""
    for line in text.splitlines():
        gathered += f"{line}\n"
        if not line.endswith("\\"):
            yield gathered
            gathered = ""


@pytest.mark.vm
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", with_samples())
def test_a_page_does_what_it_says(
    page: str, tmp_path: Path, runtime_dir: Path, templates: None
) -> None:
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for sample in samples(page):
            if not sample.not_run:
                reader.follow(sample)


def test_every_sample_is_run_or_says_why_not() -> None:
    """Also those of the pages that other tests run: each block is of a kind that is checked."""
    for sample in ALL:
        assert sample.language in {*RUN, *CHECKED, "text", ""}, sample
        if sample.language in ("text", "") and not sample.not_run:
            assert not COMMANDS.search(sample.text), f"{sample}: a command that is not run"


def test_the_reasons_are_known() -> None:
    reasons = Counter(sample.not_run for sample in ALL if sample.not_run)
    print(*(f"{count} {reason}" for reason, count in sorted(reasons.items())), sep="\n")
    assert reasons == NOT_RUN


def test_pages_that_other_tests_run_are_named_there() -> None:
    for page, test in RUN_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text()


@pytest.mark.parametrize("sample", [s for s in ALL if s.language in CHECKED], ids=str)
def test_syntax(sample: Sample) -> None:
    CHECKED[sample.language](sample.text)


@pytest.mark.parametrize("sample", [s for s in ALL if s.language == "python"], ids=str)
def test_python_is_python(sample: Sample) -> None:
    ast.parse(sample.text)


def test_c_compiles(tmp_path: Path) -> None:
    sources = [sample for sample in ALL if sample.language == "c"]
    assert sources
    for sample in sources:
        command = [
            "gcc",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{INCLUDE}",
            "-fsyntax-only",
            "-xc",
            "-",
        ]
        subprocess.run(command, input=sample.text, text=True, check=True)


def test_what_is_read_of_a_page() -> None:
    text = """
In `a/b.py`:

```python
x = 1
```

`c.c`, which is compiled:

<!-- not run: no compiler
     here -->
<!-- second terminal -->
```c
int c;
```

    indented

```console
$ first \\
> second
prints
this
$ third
```
"""
    found = list(read_samples(text, "page"))
    assert [(s.language, s.name, s.not_run) for s in found] == [
        ("python", "a/b.py", None),
        ("c", "c.c", "no compiler here"),
        ("", None, None),
        ("console", None, None),
    ]
    assert found[1].second_terminal
    assert found[3].typed == [("first \\\nsecond", "prints\nthis\n"), ("third", "")]


@pytest.mark.parametrize(
    ("printed", "output", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n…\n", "a\n", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a b\nc\n", False),
        ("a.c\n", "abc\n", False),
        ("a  b\n", "a   b\n", True),
        ("a b\n", "ab\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_what_is_shown(printed: str, output: str, same: bool) -> None:
    assert shows(printed, output) is same


def test_a_shell_keeps_what_was_set_and_tells_of_failures(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal:
        assert terminal.run("export A=1; cd /", 60) == (0, "")
        assert terminal.run("echo $A; pwd; cat; echo error >&2; false", 60) == (1, "1\n/\nerror\n")


def test_what_runs_on_ends_with_its_terminal(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal:
        terminal.run_on("echo begun; exec sleep 1000", "begun\n", 60)


def test_what_ends_too_early_is_an_error(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal, pytest.raises(EOFError, match="begun"):
        terminal.run_on("echo begun", "ready\n", 60)


def test_python_goes_on_in_one_namespace(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 6")
    (tmp_path / "b.py").write_text("print(x * 7)")
    (tmp_path / "c.py").write_text("print(nothing)")
    with Interpreter(tmp_path, os.environ) as interpreter:
        assert interpreter.run(tmp_path / "a.py", 60) == (0, "")
        assert interpreter.run(tmp_path / "b.py", 60) == (0, "42\n")
        status, output = interpreter.run(tmp_path / "c.py", 60)
    assert status == 1
    assert "name 'nothing' is not defined" in output
