#!/usr/bin/python3
"""Says that it is ready, and does nothing."""

import time

import avf_payload  # type: ignore[import-not-found]

avf_payload.notify_payload_ready()
time.sleep(3600)
