"""Descriptors that the kernel does not take yet, because its user has too many under way."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2]

TOO_MANY = """\
import errno, os, pathlib, resource, socket, sys, threading, time
from avf.binder import FdMode, ParcelFileDescriptor, Server, connect, unix
from tests.interop.echo import Echo, IEcho

path = pathlib.Path(sys.argv[1], "sock")
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(path))
listener.listen()
Server(Echo(), fd_modes=frozenset({FdMode.UNIX})).start(listener)
root = connect(unix(path), fd_mode=FdMode.UNIX, timeout=10).get_root(IEcho)
file = pathlib.Path(sys.argv[1], "file")
file.write_text("read at last")
given = ParcelFileDescriptor(os.open(file, os.O_RDONLY))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if os.getuid() == 0:
    os.setuid(65534)  # root may have any number under way

here, there = socket.socketpair()
try:
    while True:
        socket.send_fds(here, [b"x"], [here.fileno()] * 16)
except OSError as error:
    assert error.errno == errno.ETOOMANYREFS, error

waits, sleep = threading.Event(), time.sleep

def watched(seconds):
    waits.set()
    sleep(seconds)

time.sleep = watched
answers = []
call = threading.Thread(target=lambda: answers.append(root.read_fd(given)))
call.start()
assert waits.wait(30)
there.close()
call.join()
print(answers)
"""


def test_a_call_waits_until_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY, str(tmp_path)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("['read at last']\n", "")
