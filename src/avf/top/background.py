"""Whether a terminal is dark or light, asked of the terminal itself."""

import os
import re
import select
import sys
import termios
import time
import tty

_SECONDS = 0.3
_MAX_ANSWER = 256
_QUESTION = b"\x1b]11;?\x1b\\\x1b[c"
"""Which background colour it has (OSC 11), and what it is (DA1): every terminal answers the second."""
_HEX = rb"([0-9A-Fa-f]{1,4})"
_COLOUR = re.compile(rb"\x1b\]11;rgba?:" + b"/".join((_HEX, _HEX, _HEX)))
_END = re.compile(rb"\x1b\[\?[0-9;]*c")


def is_light() -> bool:
    """False where nobody knows."""
    answer = _ask() if sys.stdin.isatty() and sys.stdout.isatty() else b""
    told = lightness(answer)
    if told is None:
        told = lightness_of_number(os.environ.get("COLORFGBG", ""))
    return told is not None and told > 0.5


def lightness(answer: bytes) -> float | None:
    """From 0 (black) to 1 (white), of what a terminal answers; None: it does not say."""
    found = _COLOUR.search(answer)
    if found is None:
        return None
    red, green, blue = (int(part, 16) / float(16 ** len(part) - 1) for part in found.groups())
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def lightness_of_number(setting: str) -> float | None:
    """The same of $COLORFGBG: `15;0`, the colours' numbers, that of the background last."""
    number = setting.rpartition(";")[2]
    if not (number.isascii() and number.isdecimal() and len(number) < 4):
        return None
    return 1.0 if int(number) in (7, 15) else 0.0


def _ask() -> bytes:
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        os.write(sys.stdout.fileno(), _QUESTION)
        return _read_answer(fd, time.monotonic() + _SECONDS)
    except OSError:
        return b""
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _read_answer(fd: int, deadline: float) -> bytes:
    answer = b""
    while len(answer) < _MAX_ANSWER and not _END.search(answer):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            break
        if not (data := os.read(fd, 64)):
            break
        answer += data
    return answer
