"""Stands in for crosvm, which is no Debian package: does what its arguments ask for and answers its control socket.

Usage as crosvm's. What the "guest" does is in the kernel file: a line `exit N`, `signal N`, or `serve N`, which
answers N requests first.
"""

import json
import os
import re
import signal
import socket
import sys

REPLIES = {
    "Stats": {
        "BalloonStats": {
            "stats": {"total_memory": 1000, "free_memory": 400, "available_memory": None},
            "balloon_actual": 96,
        }
    },
    "Adjust": "Ok",
}


HELP = """Options:
  --cid             context ID
  --disable-sandbox run all devices in one, non-sandboxed process
  --disk            path to a disk
  --no-balloon      no balloon
  --rwdisk          path to a disk
  --serial          a port
  --socket          path of the control socket
"""


def main(arguments: list[str]) -> None:
    if "--help" in arguments:
        print(HELP)
        return
    descriptors = {
        int(number) for number in re.findall(r"/proc/self/fd/(\d+)", " ".join(arguments))
    }
    for fd in descriptors:
        os.fstat(fd)
    serials = [text for text in arguments if text.startswith("--serial=type=file")]
    for text in serials:
        path, hardware = re.findall(r"path=([^,]+),(.*)", text)[0]
        with open(path, "ab", buffering=0) as file:
            file.write(f"{hardware}\n".encode())
    kernel = arguments[arguments.index("--socket") - 1]
    with open(kernel) as file:
        verb, number = file.read().split()
    print("arguments:", json.dumps(arguments), file=sys.stderr, flush=True)
    if verb == "serve":
        listener = socket.socket(
            fileno=int(arguments[arguments.index("--socket") + 1].rpartition("/")[2])
        )
        for _ in range(int(number)):
            serve(listener)
    elif verb == "signal":
        os.kill(os.getpid(), int(number))
    else:
        sys.exit(int(number))
    signal.pause()


def serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        request = json.loads(connection.recv(4096))["BalloonCommand"]
        name = request if isinstance(request, str) else next(iter(request))
        reply = REPLIES[name]
        if name == "Adjust" and request[name]["num_bytes"] == 95:
            reply = {"Err": 95}
        if name == "Adjust" and request[name]["num_bytes"] == 5:
            reply = {"Err": 5}
        connection.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
