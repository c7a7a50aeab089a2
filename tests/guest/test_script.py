"""Scripts run in a fork must not see a difference to scripts run by an interpreter of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.guest.process import Process
from avf.guest.task import Kind, Program

FORK = """
import os
import signal
import sys
from avf.guest.errors import PayloadKilled
from avf.guest.process import Process
from avf.guest.task import Kind, Program

process = Process()
process.start(Program(Kind.SCRIPT, (sys.argv[1],)), as_root=True)
try:
    sys.exit(process.wait())
except PayloadKilled as end:
    signal.signal(end.number, signal.SIG_DFL)
    os.kill(os.getpid(), end.number)
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
    "leaves a file open": "left = open(__file__ + '.left', 'w')\nleft.write('in a buffer')",
    "has something to finalize": "class A:\n    def __del__(self): print('gone')\na = A()",
    "is interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)",
    "writes to a closed pipe": "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')",
    "exits in a thread": "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start()\nt.join()",
    "has a child": "import multiprocessing\np = multiprocessing.Process(target=print, args=(1,))\np.start()\np.join()",
    "prints without a newline": "import sys\nsys.stdout.write('tail')",
}


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "neighbour.py").write_text("VALUE = 5\n")
    path = tmp_path / "script.py"
    path.write_text(SCRIPTS[request.param] + "\n")
    return path


def run(*command: object) -> tuple[int, str, str]:
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_same_as_an_interpreter_of_its_own(script: Path) -> None:
    outcomes = []
    for command in (["-c", FORK, script], [script]):
        left = script.with_name(f"{script.name}.left")
        left.unlink(missing_ok=True)
        outcomes.append((run(*command), left.read_text() if left.exists() else None))
    assert outcomes[0] == outcomes[1]


AT_THE_START = {
    "PYTHONPATH": "/absent",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "LC_ALL": "C",
    "LANG": "POSIX",
    "TZ": "Asia/Tokyo",
}
SHOW = """
import locale, sys, time
print(sys.path[1:], sys.flags, sys.warnoptions, hash("x"), time.tzname, time.localtime(0).tm_hour)
print(locale.setlocale(locale.LC_CTYPE), sys.stdout.encoding, sys.argv[1:])
"""


@pytest.mark.parametrize("name", AT_THE_START)
def test_variables_that_are_read_at_the_start_of_an_interpreter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for other in AT_THE_START:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    script = tmp_path / "script.py"
    script.write_text(SHOW)
    process = Process()
    program = Program(Kind.SCRIPT, (str(script), "an argument"))
    process.start(program, as_root=True, environment=[(name, AT_THE_START[name])])
    assert process.wait() == 0
    ours = capfd.readouterr().out
    environment = {**os.environ, name: AT_THE_START[name]}
    subprocess.run([sys.executable, script, "an argument"], env=environment, check=True)
    assert ours == capfd.readouterr().out
