"""Looks at the extra APK and at what only payloads with a configuration file may see."""

import os
import socket

import avf_payload

status = os.system("/mnt/extra-apk/0/bin/tool")
print("tool:", os.waitstatus_to_exitcode(status))
with open("/mnt/extra-apk/0/assets/note.txt") as note:
    print("note:", note.read())
print("chain:", avf_payload.get_dice_attestation_chain().hex())
print("cdi:", len(avf_payload.get_dice_attestation_cdi()))

with socket.create_server(("127.0.0.1", 0)) as listener:
    socket.create_connection(listener.getsockname()).close()
print("loopback: up")

for options in ("", "-I", "-S"):
    program = f"/usr/bin/python3 {options} -c 'import json, fractions; print(json.dumps(1))'"
    print(f"python {options}:", os.popen(program).read().strip())
