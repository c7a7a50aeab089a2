"""What can go wrong with an APK.

ApkError
 +-- InputError              the file cannot be read as asked: not a regular file, too short, changed meanwhile
 +-- ZipFormatError          the ZIP container is broken or of a kind that Android does not install
 |    +-- EntryError         one entry is missing, too large, damaged or stored in an unknown way
 +-- SigningBlockError       the APK Signing Block is broken
 |    +-- SchemeNotFound     ... or holds no signature of a scheme that is accepted here
 +-- VerificationError       the file is well formed, but its signature does not prove its contents
 |    +-- UnsupportedAlgorithm   every signature uses an algorithm that is not supported
 +-- IdsigError              an idsig is broken, or none can be made for this APK
 +-- SigningError            an APK cannot be built or signed as asked
"""


class ApkError(Exception):
    """Base of all errors of this package."""


class InputError(ApkError):
    """The file cannot be read as asked."""


class ZipFormatError(ApkError):
    """The ZIP container is broken or unsupported."""


class EntryError(ZipFormatError):
    """One ZIP entry is missing, too large, damaged or stored in an unknown way."""


class SigningBlockError(ApkError):
    """The APK Signing Block is broken."""


class SchemeNotFound(SigningBlockError):
    """The APK is not signed with any accepted scheme."""


class VerificationError(ApkError):
    """The signature does not prove the contents."""


class UnsupportedAlgorithm(VerificationError):
    """No signature uses a supported algorithm."""


class IdsigError(ApkError):
    """An idsig is broken, or none can be made."""


class SigningError(ApkError):
    """An APK cannot be built or signed as asked."""
