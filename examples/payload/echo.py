#!/usr/bin/python3
"""A payload that talks: it sends back every line it gets on vsock port 5678, upside down."""

import socket

import avf_payload

PORT = 5678

with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
    listener.bind((socket.VMADDR_CID_ANY, PORT))
    listener.listen()
    avf_payload.notify_payload_ready()
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as lines:
        for line in lines:
            lines.write(line.rstrip(b"\n")[::-1] + b"\n")
            lines.flush()
