"""Runs the device, also by the path of this file alone, with neither site-packages nor environment."""

import sys

if not __package__:
    sys.path.insert(0, __file__.rsplit("/", 4)[0])

from avf.vsock.device.main import run

run()
