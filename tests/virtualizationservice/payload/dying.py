#!/usr/bin/python3
"""Sends a tombstone, as a guest's crash handler does."""

import socket

with socket.socket(socket.AF_VSOCK) as connection:
    connection.connect((socket.VMADDR_CID_HOST, 2000))
    connection.sendall(b"*** *** ***\n" * 1000)
