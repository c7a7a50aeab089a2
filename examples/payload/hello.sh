#!/bin/sh
# A payload that is a shell script: the same as hello.c. What only the vm_payload API can do, Python does for it.
set -eu

echo "Hello from a shell script!"
python3 -c 'import avf_payload; avf_payload.notify_payload_ready()'
ls -d /mnt/apk/*
