"""virtmgr: one process per client that makes, starts and watches the client's VMs.

A program, not a library: `avf.client` starts it and talks to it with `avf.aidl.virtualizationservice`.
"""
