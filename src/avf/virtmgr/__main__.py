"""`python -m avf.virtmgr`."""

from avf.virtmgr.main import run

run()
