"""What can go wrong with an APK. Every error has a message (what and why), a `code` and, where it is one place, an
`offset`.

ApkError                          apk
 +-- InputError                   input                  not a regular file, too short, unreadable as asked
 |    +-- FileChanged             file-changed           the file was written to while it was read
 +-- ZipFormatError               zip                    the container is broken or of a kind Android does not install
 |    +-- EntryError              entry                  one entry is missing, too large, damaged, overlaps another
 +-- SigningBlockError            signing-block          the APK Signing Block is broken
 |    +-- SchemeNotFound          scheme-not-found       ... or holds no signature of a scheme accepted here
 +-- V1SignatureError             v1-signature           a file of the v1 signature is broken
 +-- VerificationError            verification           well formed, but the signature does not prove the contents
 |    +-- UnsupportedAlgorithm    unsupported-algorithm  no signature uses an algorithm that is supported
 |    +-- NoSigner                no-signer              not exactly one signer for this SDK (v2: none, or too many)
 |    +-- PublicKeyError          public-key             the key is unreadable, of another type, or too weak
 |    +-- SignatureInvalid        signature-invalid      the key did not sign this
 |    +-- SignerMismatch          signer-mismatch        what is recorded twice differs: SDKs, algorithms, the key
 |    +-- CertificateError        certificate            a certificate is missing or broken
 |    +-- DigestMismatch          digest-mismatch        the contents are not those that were signed
 |    +-- EntryNotSigned          entry-not-signed       the v1 signature does not cover an entry
 |    +-- SignatureStripped       signature-stripped     a signature says that a better one was there
 |    +-- LineageError            lineage                the proof of rotation is broken or proves nothing
 +-- IdsigError                   idsig                  an idsig is broken, or none can be made for this APK
 |    +-- IdsigMismatch           idsig-mismatch         it is another file's
 |         +-- TreeMismatch       tree-mismatch          a block has not the digest that the tree holds for it
 +-- SigningError                 signing                an APK cannot be built or signed as asked
      +-- OutputError             output                 an output would replace a file that is read
"""


class ApkError(Exception):
    """Base of all errors of this package.

    `code` names the kind for programs and stays as it is; `offset` is the byte of the file where the fault was seen,
    None if it is not in one place; `file` is the path of the file at fault where the error knows it, else None.
    """

    code = "apk"

    def __init__(self, message: str, *, offset: int | None = None, file: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.file = file


class InputError(ApkError):
    """The file cannot be read as asked."""

    code = "input"


class FileChanged(InputError):
    """The file was written to while it was read."""

    code = "file-changed"


class ZipFormatError(ApkError):
    """The ZIP container is broken or unsupported."""

    code = "zip"


class EntryError(ZipFormatError):
    """One ZIP entry is missing, too large, damaged or stored in an unknown way."""

    code = "entry"


class SigningBlockError(ApkError):
    """The APK Signing Block is broken."""

    code = "signing-block"


class SchemeNotFound(SigningBlockError):
    """The APK is not signed with any accepted scheme."""

    code = "scheme-not-found"


class V1SignatureError(ApkError):
    """The manifest, a signature file or a signature block of the v1 signature is broken."""

    code = "v1-signature"


class VerificationError(ApkError):
    """The signature does not prove the contents."""

    code = "verification"


class UnsupportedAlgorithm(VerificationError):
    """No signature uses a supported algorithm."""

    code = "unsupported-algorithm"


class NoSigner(VerificationError):
    """There is not exactly one signer for the platform."""

    code = "no-signer"


class PublicKeyError(VerificationError):
    """A public key is unreadable, of another type than the algorithm, or too weak."""

    code = "public-key"


class SignatureInvalid(VerificationError):
    """The key did not sign this."""

    code = "signature-invalid"


class SignerMismatch(VerificationError):
    """What a signer records twice is not the same."""

    code = "signer-mismatch"


class CertificateError(VerificationError):
    """A certificate is missing or broken."""

    code = "certificate"


class DigestMismatch(VerificationError):
    """The contents are not those that were signed."""

    code = "digest-mismatch"


class EntryNotSigned(VerificationError):
    """The v1 signature does not cover a ZIP entry, or not all of its signers cover it."""

    code = "entry-not-signed"


class SignatureStripped(VerificationError):
    """A signature says that a better one should be there."""

    code = "signature-stripped"


class LineageError(VerificationError):
    """The proof of rotation is broken or proves nothing."""

    code = "lineage"


class IdsigError(ApkError):
    """An idsig is broken, or none can be made."""

    code = "idsig"


class IdsigMismatch(IdsigError):
    """An idsig is not of this APK."""

    code = "idsig-mismatch"


class TreeMismatch(IdsigMismatch):
    """A block does not have the digest that the Merkle tree holds for it; `offset` is the block's."""

    code = "tree-mismatch"


class SigningError(ApkError):
    """An APK cannot be built or signed as asked."""

    code = "signing"


class OutputError(SigningError):
    """An output is the same file as an input or another output."""

    code = "output"
