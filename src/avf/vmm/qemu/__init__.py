"""QEMU as a VMM."""
