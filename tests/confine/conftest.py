"""The same checks as for the virtual machine monitors that are confined."""

from tests.vmm.conftest import nothing_is_left

__all__ = ["nothing_is_left"]
