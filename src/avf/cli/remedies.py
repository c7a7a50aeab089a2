"""What to try against errors of the command line, and of sources that no APK can be made of."""

import re

_PURE = "look for another package, or for an older version that is pure Python"
_NEW_DEBUG_KEY = (
    "move it away, and a new one is made; what the old one signed is another author's then"
)
_OTHER_NAME = "choose another name"
_ONE_PAYLOAD = "`--payload-binary-name FILE` names the payload; `--config-path` a configuration file in the APK"
REMEDIES: tuple[tuple[str, str], ...] = (
    (r"--extra-apk and --config-path exclude each other", "list the extra APKs in that file alone"),
    (r"^Found .* extra apks, but there are .* extra idsigs",
     "give as many --extra-idsig as there are extra APKs, or with --extra-apk none"),
    (r"^Only one of --config-path or --payload-binary-name", _ONE_PAYLOAD),
    (r"^Couldn't read config from", "`unzip -l` lists what the APK has; correct --config-path"),
    (r"names a part of an APK, but", "leave that option out; it is for APKs alone"),
    (r"^--forkable excludes", "leave INSTANCE and --storage out"),
    (r"does not go with --detach", "leave that option or --detach out"),
    (r"^--env: .* comes twice", "give each variable one value"),
    (r"^debug key .* (belongs to user|is longer than|is not a regular file)", _NEW_DEBUG_KEY),
    (r"is an APK already$", "`vm run-app` runs it, `python -m avf.apk sign` signs it"),
    (r"cannot be the name of a VM that is kept|is no name for a VM", f"{_OTHER_NAME}, of letters, digits, - and _"),
    (r"there is a VM .* already|has files of a VM already", _OTHER_NAME),
    (r"^VM .* is (deleted|not in stopped state)", "`vm ls` shows your VMs and their states"),
    (r"the connection to the guest was cut off", "`vm ls` shows whether the VM runs"),
    (r"cannot listen on vsock port", "choose another port"),
    (r"cannot listen on .*: Address already in use", "choose another port; tcp:0 takes any that is free"),
    (r"cannot listen on ", "choose another address"),
    (r"the VM with CID .* is gone", "`vm list` shows the VMs of this host"),
    (r"^--storage-size: ", "sizes look like 512M or 10G"),
    (r"^cannot run (?!virtmgr)", "correct the name of the command, or give its path"),
    (r"a key is never written over|: File exists$|is not empty and is no APK|is there already$", _OTHER_NAME),
    (r"^--common-name has 1 to 64", "--common-name 'Example Ltd'"),
    (r"has no password in its first line", "write the password into the first line of that file"),
    (r"^--password-file is for the key", "name the key store by --key, or leave --password-file out"),
    (r"is longer than \d+ bytes$", "name the right file"),
    (r"^name the templates to remove|^none of your templates begins with", "`vm template list` shows their keys"),
    (r"is neither an APK, an ELF file nor a folder", "--symbols takes the APK, or the folder of its parts"),
    (r"could not compile ", "correct what the compiler says, or choose another compiler by $CC"),
    (r"is no name for a payload|is also in a wheel of", "rename the file"),
    (r"is for Python, but the payload is", "remove requirements.txt, or have a payload in Python"),
    (r"main (names|must name) ", "correct `main` in payload.toml"),
    (r"is a link that leads out of the folder", "put a copy of what it leads to in its place"),
    (r"has more than .* files or .* MiB", "take what is no part of the payload out of the folder"),
    (r"is none; it looks like org\.example", "write a package name as in Java: two words at least, with dots between"),
    (r"is a .* program; the guest runs 64-bit|is a damaged ELF file", "build it anew for x86_64"),
    (r"is no name for a project", "vm new my-project"),
    (r"pip found no wheels", "correct the names and versions, or the network; pip's own words are above"),
    (r"is not pure Python", _PURE),
    (r"is not text in UTF-8", "write it as plain text, a requirement a line"),
    (r" both have ", "leave one of the two packages out"),
    (r"has \d+ files of \d+ bytes, which is too much", "leave that package out; a payload takes what it needs alone"),
    (r"is damaged: ", "`pip cache purge` makes pip fetch it anew"),
)  # fmt: skip
"""Patterns of texts, and what helps; the first that matches counts."""

OF_THE_SYSTEM: tuple[tuple[str, str], ...] = (
    (r"(No such file or directory|Not a directory|Is a directory|Too many levels of symbolic links)$",
     "correct the path"),
    (r"(Permission denied|Operation not permitted|Read-only file system)$",
     "choose another place, or correct the rights of the file and its folder"),
    (r"File name too long$", "choose a shorter name"),
    (r"Disk quota exceeded$", "make room on the file system"),
    (r"File exists$", _OTHER_NAME),
)  # fmt: skip
"""The same for the system's own words at the end of a line, where nothing else is known to help."""


def remedy_for(text: str) -> str:
    """What helps against an error with that text; empty if that depends."""
    return next((remedy for pattern, remedy in REMEDIES if re.search(pattern, text)), "")


def system_remedy_for(text: str) -> str:
    """What helps against what the system refused; `text` may have several lines."""
    found = (remedy for pattern, remedy in OF_THE_SYSTEM if re.search(pattern, text, re.MULTILINE))
    return next(found, "")
