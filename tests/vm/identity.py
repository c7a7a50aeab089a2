#!/usr/bin/python3
"""Prints the secrets of its instance and of its code, and adds to a file in the encrypted storage."""

from pathlib import Path

import avf_payload  # type: ignore[import-not-found]

VERSION = Path("/mnt/apk/assets/version").read_text()
boots = Path(avf_payload.get_encrypted_storage_path(), "boots")
with boots.open("a") as file:
    file.write(f"{VERSION} ")
print("instance", avf_payload.get_vm_instance_secret(b"a key").hex())
print("code", avf_payload.get_vm_code_secret(b"a key").hex())
print("boots", boots.read_text())
