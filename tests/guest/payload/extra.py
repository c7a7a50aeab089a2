"""Looks at the extra APK and at what only payloads with a configuration file may see."""

import os

import avf_payload

status = os.system("/mnt/extra-apk/0/bin/tool")
print("tool:", os.waitstatus_to_exitcode(status))
with open("/mnt/extra-apk/0/assets/note.txt") as note:
    print("note:", note.read())
print("chain:", avf_payload.get_dice_attestation_chain().hex())
print("cdi:", len(avf_payload.get_dice_attestation_cdi()))
