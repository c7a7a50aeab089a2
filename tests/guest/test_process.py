"""The payload's process, run as whoever runs the tests; what another user is kept from is tried in tests/attack."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest

from avf.guest import process
from avf.guest.errors import PayloadKilled
from avf.guest.process import Process
from avf.guest.task import Kind, Program


def run(code: str) -> Process:
    process = Process()
    process.start(Program(Kind.PROGRAM, (sys.executable, "-c", code)), as_root=True)
    return process


@pytest.mark.parametrize("code", [0, 7, 255])
def test_exit_codes(code: int) -> None:
    assert run(f"raise SystemExit({code})").wait() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGPIPE])
def test_signals(number: signal.Signals) -> None:
    process = run(
        f"import os; os.kill(os.getpid(), {int(number)})" if number != signal.SIGPIPE else PIPE
    )
    with pytest.raises(
        PayloadKilled, match=rf"Payload exited due to signal: {int(number)} \({number.name}\)"
    ):
        process.wait()


def test_a_signal_without_a_name() -> None:
    assert str(PayloadKilled(40)) == "Payload exited due to signal: 40 (Real-time signal 6)"


PIPE = "import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGPIPE)"


def test_it_waits_to_be_started(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    process = Process()
    assert not mark.exists()
    process.start(Program(Kind.PROGRAM, ("/bin/sh", "-c", f"> {mark}")), as_root=True)
    assert process.wait() == 0
    assert mark.exists()


def test_it_ends_if_it_is_never_started() -> None:
    """As when the agent has ended before the start."""
    process = Process()
    os.close(process._orders)
    assert process.wait() == 0


def test_it_does_not_know_what_is_learnt_after_it_was_made(tmp_path: Path) -> None:
    """A secret of this process, made after the fork, is not in its memory; one made before is."""
    before = os.urandom(32)
    process = Process()
    after = os.urandom(32)
    output = tmp_path / "found"
    script = tmp_path / "search.py"
    values = [bytes(byte ^ 255 for byte in value).hex() for value in (before, after)]
    script.write_text(SEARCH.format(values=values, output=str(output)))
    process.start(Program(Kind.SCRIPT, (str(script),)), as_root=True)
    assert process.wait() == 0
    assert output.read_text() == "[True, False]"


SEARCH = """
flipped = bytes(range(256))[::-1]
values = [bytes.fromhex(value) for value in {values}]
found = [False] * len(values)
with open("/proc/self/maps") as file:
    regions = [line.split() for line in file]
with open("/proc/self/mem", "rb", buffering=0) as memory:
    for region in regions:
        if "r" in region[1] and region[-1] not in ("[vvar]", "[vsyscall]"):
            start, end = (int(text, 16) for text in region[0].split("-"))
            memory.seek(start)
            try:
                piece = memory.read(end - start).translate(flipped)
            except OSError:  # a mapping that goes on behind the end of its file
                continue
            found = [known or value in piece for known, value in zip(found, values)]
with open({output!r}, "w") as file:
    file.write(str(found))
"""


def test_the_payload_has_no_descriptors_of_the_agent_and_a_session_of_its_own(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    number = 200
    code = f"""
import os
with open({str(output)!r}, "w") as file:
    print({number} in map(int, os.listdir("/proc/self/fd")), os.getsid(0) == os.getpid(), file=file)
"""
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), number, inheritable=True)
    try:
        assert run(code).wait() == 0
    finally:
        os.close(number)
    assert output.read_text() == "False True\n"


def test_a_program_that_is_not_there() -> None:
    process = Process()
    process.start(Program(Kind.PROGRAM, ("/absent",)), as_root=True)
    assert process.wait() == 127


def test_the_payload_of_a_clone_draws_other_numbers_than_its_neighbours() -> None:
    random.seed(1)
    process._be_unlike_others()
    assert random.random() != random.Random(1).random()
