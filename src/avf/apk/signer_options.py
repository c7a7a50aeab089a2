"""Options that say which keys a command works with, several times over, in apksigner's words."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avf.apk.errors import SigningError
from avf.apk.files import about, read_small
from avf.apk.lineage import Capability
from avf.apk.passwords import FORMS, Passwords, check_source

if TYPE_CHECKING:
    from avf.apk.keys import SigningKey

_STORE_TYPES = ("jks", "jceks", "pkcs12")
_CAPABILITIES = {
    "set_installed_data": Capability.INSTALLED_DATA,
    "set_shared_uid": Capability.SHARED_UID,
    "set_permission": Capability.PERMISSION,
    "set_rollback": Capability.ROLLBACK,
    "set_auth": Capability.AUTH,
}
BOOLEANS = {
    *(f"--v{n}-signing-enabled" for n in (1, 2, 3, 4)),
    *(f"--{name.replace('_', '-')}" for name in _CAPABILITIES),
    "--verity-enabled",
    "--debuggable-apk-permitted",
    "--alignment-preserved",
    "--force-stamp-overwrite",
    "--stamp-timestamp-enabled",
}
"""Options that take "true", "false" or, as with apksigner, nothing."""


class SignerOptions:
    """What was said of one signer. `role` is the option that it began with, empty for the first one of `sign`."""

    def __init__(self, role: str = "") -> None:
        self.role = role
        self.given: dict[str, Any] = {}

    def load(self, passwords: Passwords) -> "SigningKey":
        """The key; the file that is wrong is the one named in the error."""
        if "ks" in self.given:
            return self._from_store(self.given["ks"], passwords)
        return self._from_files(self.given["key"], self.given["cert"], passwords)

    def check(self) -> None:
        """ValueError unless there is one key."""
        files = {"key", "cert"} & self.given.keys()
        if ("ks" in self.given) == bool(files) or len(files) == 1:
            after = f" after {self.role}" if self.role else ""
            raise ValueError(f"give --ks, or --key and --cert{after}")

    def paths(self) -> list[Path]:
        """The files of the key."""
        return [self.given[name] for name in ("ks", "key", "cert") if name in self.given]

    def v1_name(self) -> str:
        """What the name of the files of its v1 signature is made of."""
        name: str | None = self.given.get("v1_signer_name") or self.given.get("ks_key_alias")
        return name or (self.given.get("key") or self.given["ks"]).stem

    def capabilities(self, before: Capability) -> Capability:
        """`before`, changed as asked."""
        for name, flag in _CAPABILITIES.items():
            if name in self.given:
                before = before | flag if self.given[name] else before & ~flag
        return before

    def _from_store(self, path: Path, passwords: Passwords) -> "SigningKey":
        from avf.apk.keys import SigningKey

        store = read_small(path)
        password = self._password("ks_pass", passwords, f"{path}")
        with about(path):
            return SigningKey.from_key_store(
                store,
                password,
                alias=self.given.get("ks_key_alias"),
                key_password=lambda: self._password("key_pass", passwords, f"a key in {path}"),
            )

    def _from_files(self, key: Path, certificate: Path, passwords: Passwords) -> "SigningKey":
        from avf.apk.key_files import load_certificates, load_private_key
        from avf.apk.keys import SigningKey

        with about(key):
            private = load_private_key(
                read_small(key), lambda: self._password("key_pass", passwords, f"{key}").encode()
            )
        with about(certificate):
            own, *chain = load_certificates(read_small(certificate), private)
            return SigningKey(private, own, chain)

    def _password(self, option: str, passwords: Passwords, what: str) -> str:
        source = self.given.get(option)
        return passwords.ask(what) if source is None else passwords.get(source)


class _Next(argparse.Action):
    """Begins another signer."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        _signers(namespace).append(SignerOptions(option_string or ""))


class _OfSigner(argparse.Action):
    """Says something of the last signer."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        signers = _signers(namespace)
        if not signers:
            signers.append(SignerOptions())
        if self.dest in signers[-1].given:
            parser.error(
                f"{option_string} is given twice for one signer: begin the next one before"
            )
        signers[-1].given[self.dest] = values


def _signers(namespace: argparse.Namespace) -> list[SignerOptions]:
    if namespace.signers is None:
        namespace.signers = []
    found: list[SignerOptions] = namespace.signers
    return found


def add_signers(
    command: argparse.ArgumentParser, markers: Sequence[tuple[str, str]], *, capabilities: bool
) -> None:
    """Options of signers, each of which begins with one of `markers`: names with their help."""
    command.set_defaults(signers=None)
    group = command.add_argument_group("for each signer")
    for name, text in markers:
        group.add_argument(name, action=_Next, nargs=0, dest="signers", help=text)

    def add(name: str, text: str, **more: Any) -> None:
        group.add_argument(name, action=_OfSigner, default=argparse.SUPPRESS, help=text, **more)

    add("--ks", "key store: PKCS #12, JKS or JCEKS", type=Path, metavar="FILE")
    add("--ks-pass", FORMS, type=_password, metavar="PASSWORD")
    add("--ks-key-alias", "which key of the store", metavar="NAME")
    add("--ks-type", "told by the contents: jks, jceks or pkcs12", type=_store_type, metavar="TYPE")
    add("--key", "private key, PEM or DER", type=Path, metavar="FILE")
    add("--cert", "certificate or chain, PEM or DER", type=Path, metavar="FILE")
    add("--key-pass", "password of the key, if it has one", type=_password, metavar="PASSWORD")
    if not capabilities:
        add("--v1-signer-name", "name of the v1 files (alias or key file's name)", metavar="NAME")
    for option, flag in _CAPABILITIES.items() if capabilities else ():
        name = f"--{option.replace('_', '-')}"
        add(name, f"capability {flag.name}", type=boolean, metavar="true|false")


def check_signers(options: argparse.Namespace) -> list[SignerOptions]:
    """The signers of a command; one with less or more than a key is a wrong usage."""
    signers: list[SignerOptions] = options.signers or [SignerOptions()]
    for signer in signers:
        try:
            signer.check()
        except ValueError as error:
            options.parser.error(str(error))
    return signers


def join_booleans(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of every boolean option in the same word, "true" where none follows."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in BOOLEANS:
            value = argument if argument in ("true", "false", "only") else "true"
            joined[-1] += f"={value}"
            if value == argument:
                continue
        joined.append(argument)
    if joined and joined[-1] in BOOLEANS:
        joined[-1] += "=true"
    return joined


def boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"neither true nor false: {text!r}")
    return text == "true"


def _password(text: str) -> str:
    return _checked(check_source, text)


def _store_type(text: str) -> str:
    if text.lower() not in _STORE_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_STORE_TYPES)}")
    return text


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def load_all(
    signers: Sequence[SignerOptions], passwords: Passwords | None = None
) -> list["SigningKey"]:
    """The keys, their passwords read in the order of the signers."""
    passwords = passwords or Passwords()
    keys = [signer.load(passwords) for signer in signers]
    if len({key.certificate for key in keys}) != len(keys):
        raise SigningError("a signer is given twice")
    return keys
