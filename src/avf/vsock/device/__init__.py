"""The user-space vsock device: one process per VM, a vhost-user back-end for QEMU, unix sockets towards the host.

The front-end (QEMU) is trusted to the extent that it owns the guest; the guest is hostile. Whatever a guest writes into
its queues may end that guest's traffic, but neither the process nor its memory bounds.
"""
