from tests.vm.conftest import app, service

__all__ = ["app", "service"]
