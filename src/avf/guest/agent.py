"""Stub."""


def main() -> int:
    with open("/dev/hvc2", "wb", 0) as f:
        f.write(b"agent says hello, modules %d\n" % len(__import__("sys").modules))
    return 0
