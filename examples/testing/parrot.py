import socket

import avf_payload

with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 5678))
    listener.listen()
    avf_payload.notify_payload_ready()
    while True:
        with listener.accept()[0] as stream:
            stream.sendall(stream.recv(100))
