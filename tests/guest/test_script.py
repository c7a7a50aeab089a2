"""Scripts run in a fork must not see a difference to scripts run by an interpreter of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

FORK = """
import sys
from avf.guest.process import Process
from avf.guest.task import Kind, Program

process = Process()
process.start(Program(Kind.SCRIPT, (sys.argv[1],)), as_root=True)
sys.exit(process.wait())
"""
SCRIPTS = {
    "ends": "print('done')",
    "returns a code": "import sys; sys.exit(7)",
    "returns too large a code": "raise SystemExit(300)",
    "exits with text": "exit('because')",
    "raises": "def inner():\n    raise ValueError('wrong')\ninner()",
    "has a syntax error": "print('a'\n1 1",
    "is a main module": "import __main__, sys\nprint(__name__, __file__, sys.argv, __main__.__dict__ is globals())",
    "imports its neighbour": "import neighbour\nprint(neighbour.VALUE)",
    "has exit handlers": "import atexit\natexit.register(print, 'handler')\nprint('first')",
    "has threads": "import threading\nthreading.Thread(target=lambda: print('thread')).start()",
    "has its own hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[1])\n1 / 0",
    "uses dataclasses": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\nprint(A(1))",
    "pickles": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "prints without a newline": "import sys\nsys.stdout.write('tail')",
}


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "neighbour.py").write_text("VALUE = 5\n")
    path = tmp_path / "script.py"
    path.write_text(SCRIPTS[request.param] + "\n")
    return path


def run(*command: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_same_as_an_interpreter_of_its_own(script: Path) -> None:
    assert run("-c", FORK, script) == run(script)
