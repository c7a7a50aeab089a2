"""The script the kernel runs when a process of a guest that exports tombstones has crashed."""

import sys

sys.path.insert(0, "/usr/lib/python3/dist-packages")

import avf_bundle  # type: ignore[import-not-found]

avf_bundle.install()

from avf.guest.tombstone import handle  # noqa: E402

sys.exit(handle(sys.argv[1:]))
