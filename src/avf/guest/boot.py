"""The script the guest's init runs: puts the bundle in place and starts the agent."""

import gc
import os
import sys

gc.disable()  # what is imported stays; looking for garbage in it would only take time
sys.path.insert(0, "/usr/lib/avf/python")

import avf_bundle  # type: ignore[import-not-found]  # noqa: E402

avf_bundle.install()

from avf.guest.agent import main  # noqa: E402

gc.freeze()
gc.enable()
os._exit(main())  # threads may still be waiting for calls; nothing is left to be tidied up
