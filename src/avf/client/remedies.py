"""What to do about errors that users meet. docs/troubleshooting.md has the same, and more, as tables."""

import re

_NEW_INSTANCE = "or use a new instance image (a new file name)"
REMEDIES: tuple[tuple[str, str], ...] = (
    (r"memoryMib is \d+, but this host", "give the VM less memory (`--mem`), or leave that to the image"),
    (r"memoryMib is \d+", "give the VM more memory (`--mem`), or leave that to the image"),
    (r"no guest image|Failed to load the guest image|microdroid\.json",
     "`vm doctor` says how to get a guest image; `--image` names its folder"),
    (r"the guest has no shell service", "start the VM with `--debug full`, and wait until it has booted"),
    (r"is not installed \(Debian package qemu-system-x86\)", "sudo apt-get install qemu-system-x86"),
    (r"is not installed \(Debian package libseccomp2\)", "sudo apt-get install libseccomp2"),
    (r"is not installed \(Debian package util-linux\)", "sudo apt-get install util-linux"),
    (r"bubblewrap is not installed", "sudo apt-get install bubblewrap"),
    (r"AVF_ACCEL is kvm, but ", "unset AVF_ACCEL, or do what `vm doctor` says of the accelerator"),
    (r"/dev/vhost-vsock cannot be opened", "unset AVF_VSOCK, or do what `vm doctor` says of vsock"),
    (r"\bAVF_[A-Z_]+ is .*; it must be ", "correct the variable, or unset it"),
    (r" is in use by ", "stop the other VM, or give each VM images of its own"),
    (r"VM already started or failed", "create a new VM"),
    (r"RLIMIT_NOFILE", "`ulimit -n` raises the limit; close VMs that are not needed"),
    (r"Protected VMs are not supported", "leave `--protected` out"),
    (r"Can't (use gdb with|type into) non-debuggable VMs", "`--debug full` makes the VM debuggable"),
    (r"only a v1 \(JAR\) signature",
     "sign the APK again with `python -m avf.apk sign`, or with apksigner and `--v3-signing-enabled true`"),
    (r"The APK is not signed",
     "`python -m avf.apk sign --key KEY --cert CERT --out SIGNED APK` signs it"),
    (r"Invalid ZIP", "an APK is needed, which is a ZIP archive; one that is damaged must be made again"),
    (r"ZIP entry .* not found", "`unzip -l` lists what the APK has"),
    (r"Payload binary name must not specify a path", "give the name of the file alone, without its folders"),
    (r"instance image: header: bad magic",
     "an instance image is made by `vm run-app` and by `vm create-partition -t instance`"),
    (r"^Failed to create .*: No such file or directory", "make its folder first"),
    (r"^Failed to create .*: File exists", "choose another name, or remove that file if it is not needed"),
    (r"there is no tombstone", "`vm tombstones list` shows those that there are"),
    (r"AVF_SERVICE_SOCKET names", "unset AVF_SERVICE_SOCKET, or start the service"),
    (r"Mode \d+ is not allowed", "`chmod go-w` the file"),
    (r"No space left on device", "make room on the file system"),
    (r"Too many open files", "`ulimit -n` raises the limit; close VMs that are not needed"),
)  # fmt: skip
"""Patterns of texts of this host, and what helps; the first that matches counts."""
GUEST_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"^Payload has changed: ",
     f"use an APK by the same signer with the same package name, {_NEW_INSTANCE}"),
    (r"^Downgrade refused: ", f"use the newer APK, {_NEW_INSTANCE}"),
    (r"^Instance image was rolled back",
     "use the newest copy of the image, or `vm forget-instance IMAGE` to go back on purpose"),
    (r"^instance image: cannot be decrypted",
     f"use the debug level and the guest image that the instance was made with, {_NEW_INSTANCE}"),
    (r"^Unable to access /mnt/apk", "`unzip -l` lists what the APK has; correct `--payload-binary-name`"),
    (r"^Failed to run payload: out of memory", "give the VM more memory (`--mem`)"),
    (r"^Failed to run payload", "`vm tombstones list` shows what a debuggable guest has left"),
)  # fmt: skip
"""The same for what guests report, which may be made up: nothing here may do harm if it is followed for no reason."""


def remedy_for(text: str) -> str:
    """What helps against an error with that text; empty if that depends."""
    return _first(REMEDIES, text)


def guest_remedy_for(text: str) -> str:
    """What helps against what a guest has reported; empty if that depends."""
    return _first(GUEST_REMEDIES, text)


def _first(remedies: tuple[tuple[str, str], ...], text: str) -> str:
    return next((remedy for pattern, remedy in remedies if re.search(pattern, text)), "")
