"""/init of the guest: puts the bundle in place and goes on as PID 1."""

import gc
import sys
import time

booted = time.monotonic_ns()
gc.disable()  # what is imported stays; looking for garbage in it would only take time
del sys.path[0]  # the folder of this script, which is that of the whole system

import avf_bundle  # type: ignore[import-not-found]  # noqa: E402

avf_bundle.install()

from avf.guest import phases  # noqa: E402
from avf.guest.init import main  # noqa: E402

phases.ended("kernel", booted)
phases.ended("interpreter")
main()
