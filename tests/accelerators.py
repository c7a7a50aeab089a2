"""Tests that run a second time, under KVM, where this host's KVM runs such guests."""

import functools

import pytest

from avf.vmm import Accelerator, acceleration_for, find_qemu
from avf.vmm.kvm import kvm_processor
from tests.vmm.guest import kernel

ACCELERATORS = ["tcg", "kvm"]


@functools.cache
def kvm_runs_firmware() -> bool:
    return kvm_processor(find_qemu()) is not None


@functools.cache
def kvm_runs_kernels() -> bool:
    with open(kernel().vmlinux, "rb") as file:
        found = acceleration_for(find_qemu(), file.fileno())
    return found.accelerator is Accelerator.KVM


def choose(monkeypatch: pytest.MonkeyPatch, accelerator: str, *, kernels: bool = False) -> None:
    """Has VMs run under `accelerator`; skips the test if these guests do not run under it here."""
    if accelerator == "kvm":
        if not kvm_runs_firmware():
            pytest.skip("no guest runs under KVM here")
        if kernels and not kvm_runs_kernels():
            pytest.skip("no kernel runs under KVM here")
    monkeypatch.setenv("AVF_ACCEL", accelerator)
