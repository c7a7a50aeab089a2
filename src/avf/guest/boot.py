"""The script the guest's init runs: puts the bundle in place and starts the agent."""

import sys

sys.path.insert(0, "/usr/lib/avf/python")

import avf_bundle  # type: ignore[import-not-found]

avf_bundle.install()

from avf.guest.agent import main  # noqa: E402

sys.exit(main())
