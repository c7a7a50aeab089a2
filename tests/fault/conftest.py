from tests.vm.conftest import app, image_dir, sample_apk, service

__all__ = ["app", "image_dir", "sample_apk", "service"]
