#!/usr/bin/python3
"""Prints what must differ between two guests that were one until a moment ago."""

import os
import random
import ssl
import subprocess
import sys
import time
import uuid
from pathlib import Path

import avf_payload  # type: ignore[import-not-found]

NEW = [sys.executable, "-c", "import os; print(hash('text'), os.urandom(8).hex())"]

print("urandom", os.urandom(16).hex())
print("random", random.random(), random.SystemRandom().random())
print("ssl", ssl.RAND_bytes(16).hex())
print("uuid", uuid.uuid4())
print("boot", Path("/proc/sys/kernel/random/boot_id").read_text().strip())
print("secret", avf_payload.get_vm_instance_secret(b"a key").hex())
print("new", subprocess.run(NEW, capture_output=True, text=True, check=True).stdout.strip())
print("time", time.time())
