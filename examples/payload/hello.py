#!/usr/bin/python3
"""A payload in Python: the same as hello.c."""

import os

import avf_payload

print("Hello from a Python payload!")
avf_payload.notify_payload_ready()
path = avf_payload.get_apk_contents_path()
for name in sorted(os.listdir(path)):  # noqa: PTH208 - the guest imports as little as it can
    print(f"{path}/{name}")
