"""From a source to a VM with the real virtmgr: arguments, output, exit status, VMs that are kept."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import eventually

BUILD = Path(__file__).parents[2] / "build"
VM = [sys.executable, "-m", "avf.cli"]
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.vm

SCRIPT = """\
import os, sys
import avf_payload
print(sys.argv[1:], os.environ["GREETING"], os.environ.get("LD_LIBRARY_PATH"))
print("to stderr", file=sys.stderr)
print("no end of line", end="", flush=True)
sys.exit(7)
"""

ERRORS = """\
import os, subprocess, sys, time
print("first", file=sys.stderr)
subprocess.run(["sh", "-c", "echo out of a child; echo out of a child >&2"])
with open("/dev/stderr", "w") as again:
    print("opened again", file=again)
print("x" * 300_000, file=sys.stderr)
os.write(1, b"out\\n")
if os.fork() == 0:
    time.sleep(3600)
os.write(2, b"the end without a newline")
os.kill(os.getpid(), 9)
"""

ORDER = """\
import os
for n in range(50):
    os.write(1, b"%d o\\n" % n)
    os.write(2, b"%d e\\n" % n)
"""

LIBRARY = """\
#include <stdio.h>
#include <stdlib.h>
#include "avf_payload.h"
#include "vm_payload.h"
int AVmPayload_main(void)
{
	const char *const *argv;
	int count = AvfPayload_getArguments(&argv);
	for (int i = 1; i <= count; i++)
		printf("%s\\n", argv[i] ? argv[i] : "end");
	puts(getenv("GREETING"));
	fflush(stdout);
	abort();
}
"""

SERVICE = """\
import os, pathlib, sys
import avf_payload
print(avf_payload.get_vm_instance_secret(b"who").hex(), sys.argv[1:], flush=True)
marker = pathlib.Path(avf_payload.get_encrypted_storage_path(), "runs")
runs = marker.read_text() if marker.exists() else ""
marker.write_text(runs + "x")
os.sync()
print("runs:", len(runs), flush=True)
if sys.argv[1:] != ["leave"]:
    avf_payload.notify_payload_ready()
    import time
    time.sleep(3600)
"""


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, tmp_path: Path) -> Run:
    if "AVF_IMAGE_DIR" not in os.environ:
        monkeypatch.setenv("AVF_IMAGE_DIR", str(BUILD / "image"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*VM, *words], capture_output=True, text=True, timeout=300)

    return run


def after_the_notes(text: str) -> list[str]:
    """The lines behind those of `vm` itself: the key that it made, the payload that it runs."""
    return text.split("(Python script) in VM ")[1].splitlines()[1:]


def test_a_script_gets_its_words_and_gives_its_output_and_status(vm: Run) -> None:
    Path("hello.py").write_text(SCRIPT)
    words = ["--env", "GREETING=hi", "--env", "LD_LIBRARY_PATH=/x", "--", "a b", "--c", ""]
    ran = vm("run-app", "hello.py", *words)
    assert ran.stdout == "['a b', '--c', ''] hi /x\nno end of line"
    assert after_the_notes(ran.stderr) == ["to stderr"]
    assert ran.returncode == 7
    assert [path.name for path in Path().iterdir()] == ["hello.py"]


def test_standard_error_stays_apart(vm: Run) -> None:
    """By whatever way it is written, to the last byte before a signal; what is left behind does not hold up the end."""
    Path("errors.py").write_text(ERRORS)
    ran = vm("run-app", "errors.py")
    assert ran.stdout == "out of a child\nout\n"
    told = after_the_notes(ran.stderr)
    assert told[:4] == ["first", "out of a child", "opened again", "x" * 300_000]
    assert told[4].startswith("the end without a newlinethe payload was killed")
    assert ran.returncode == 128 + 9


def test_one_stream_is_kept_in_order(vm: Run) -> None:
    Path("order.py").write_text(ORDER)
    both = subprocess.run(
        [*VM, "run-app", "order.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert after_the_notes(both.stdout) == [f"{n} {name}" for n in range(50) for name in "oe"]


def test_the_log_of_a_detached_vm_has_both(vm: Run) -> None:
    Path("both.py").write_text(ORDER + "import time\ntime.sleep(3600)\n")
    begun = vm("run-app", "-d", "--name", "both", "both.py")
    assert begun.returncode == 0, begun.stderr
    wanted = [f"{n} {name}" for n in range(50) for name in "oe"]
    eventually(lambda: vm("logs", "both").stdout.splitlines()[-100:], wanted, 60)
    assert vm("rm", "--force", "both").returncode == 0


def test_who_listens_to_the_log_hears_what_goes_elsewhere(vm: Run) -> None:
    Path("words.py").write_text("import os, time\nos.write(2, b'to stderr\\n')\ntime.sleep(3600)\n")
    start = [*VM, "run-app", "--name", "words", "words.py"]
    with (
        Path("errors").open("wb") as errors,
        subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=errors) as running,
    ):
        eventually(lambda: "to stderr" in Path("errors").read_text(), True, 60)
        assert "to stderr\n" in vm("logs", "words").stdout
        running.terminate()


def test_a_library_gets_them_too_and_its_signal_is_told(vm: Run) -> None:
    Path("main.c").write_text(LIBRARY)
    ran = vm("run-app", "main.c", "-e", "GREETING=hi", "--", "one", "two")
    assert ran.stdout.splitlines()[:4] == ["one", "two", "end", "hi"]
    assert ran.returncode == 128 + 6
    assert "SIGABRT" in ran.stderr
    assert "last step" not in ran.stderr


def test_what_a_run_leaves_to_be_looked_at(vm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-{parent}-01")
    Path("words.py").write_text("print('hello <b>')")
    Path("report.html").write_text("mine")
    files = ("--timeline", "--report", "report.html", "--otlp", "start.json")
    refused = vm("run-app", "words.py", *files)
    assert refused.returncode == 1
    assert "report.html is no report of a VM: it looks like text" in refused.stderr
    assert Path("report.html").read_text() == "mine"

    Path("report.html").unlink()
    done = vm("run-app", "words.py", *files)
    assert (done.returncode, done.stdout) == (0, "hello <b>\n")
    assert re.search(
        r"^(cold start|start as a clone): \d+\.\d ms until the payload", done.stderr, re.M
    )
    assert re.search(r"^  guest  \w+ +\d+\.\d +\d+\.\d% ", done.stderr, re.M)
    page = Path("report.html").read_text()
    assert "hello &lt;b&gt;" in page and "hello <b>" not in page
    assert page.count("proved") == 4
    (told,) = json.loads(Path("start.json").read_text())["resourceSpans"][0]["scopeSpans"]
    whole = told["spans"][0]
    assert (whole["traceId"], whole["parentSpanId"]) == (trace, parent)
    assert {"vm start", "spawn", "guest", "verify"} <= {span["name"] for span in told["spans"]}


def test_a_mute_vm_takes_arguments_and_refuses_what_is_code(vm: Run) -> None:
    Path("hello.py").write_text("import sys; sys.exit(len(sys.argv))")
    assert vm("build", "hello.py", "--package", "org.example.hello").returncode == 0
    start = ["run-app", "hello.apk"]
    ran = vm(*start, "--env", "PYTHONPATH=/mnt/extra-apk/0")
    assert ran.returncode == 1
    assert "PYTHONPATH can change which code runs" in ran.stderr
    ran = vm(*start, "--payload-status", "--", "one", "two")
    assert ran.returncode == 3
    assert "the payload's output is not shown" in ran.stderr
    assert len(ran.stdout.splitlines()) == 2  # "Created VM" and "VM ended": nothing leaks


def test_a_detached_vm_outlives_its_command(vm: Run) -> None:
    Path("server.py").write_text("import time\nprint('serving', flush=True)\ntime.sleep(3600)\n")
    begun = vm("run-app", "-d", "--name", "server", "server.py")
    assert begun.returncode == 0, begun.stderr
    (line,) = json.loads(vm("ls", "--json").stdout)
    assert (line["name"], str(line["cid"])) == ("server", begun.stdout.strip())
    with subprocess.Popen([*VM, "logs", "-f", "server"], stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout is not None
        assert any(text == "serving\n" for text in logs.stdout)
        assert vm("stop", "server").returncode == 0
        logs.communicate(timeout=60)
    eventually(lambda: vm("start", "-d", "server").returncode, 0, 60)
    assert vm("rm", "--force", "server").returncode == 0


def test_what_no_vm_can_be_made_of_is_not_kept(vm: Run) -> None:
    Path("hello.py").write_text("print('hello')")
    for known in ([], ["hello"]):
        failed = vm("run-app", "hello.py", "--name", "hello", "--mem", "1")
        assert failed.returncode == 1
        assert "memoryMib is 1" in failed.stderr
        assert [line["name"] for line in json.loads(vm("ls", "--json").stdout)] == known
        assert vm("run-app", "hello.py", "--name", "hello").stdout == "hello\n"


def test_a_vm_with_a_name_is_kept(vm: Run) -> None:
    Path("counter").mkdir()
    Path("counter/main.py").write_text(SERVICE)
    start = [*VM, "run-app", "counter", "--name", "counter", "--storage-size", "16M"]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        secret = running.stdout.readline().split()[0]
        assert running.stdout.readline() == "runs: 0\n"
        (line,) = json.loads(vm("ls", "--json").stdout)
        assert (line["name"], line["payload"], line["kept"]) == ("counter", "main.py", True)
        assert line["memory_mib"] > 0
        assert "runs: 0" in vm("logs", "counter").stdout
        assert "runs already" in vm("start", "counter").stderr
        assert "runs already" in vm("rm", "counter").stderr
        assert vm("stop", "counter").returncode == 0
        assert running.wait() == 1
    (line,) = json.loads(vm("ls", "--json").stdout)
    assert (line["state"], line["cid"]) == ("STOPPED", None)
    again = vm("start", "counter", "--", "leave")
    assert again.stdout == f"{secret} ['leave']\nruns: 1\n"
    assert again.returncode == 0
    other = vm("run-app", "counter", "--name", "counter", "--debug", "none")
    assert "its debuggable is True, not False" in other.stderr
    assert vm("rm", "counter").returncode == 0
    assert json.loads(vm("ls", "--json").stdout) == []
