"""What virtualizationservice cannot do.

ServiceError
|-- CidError      every CID is in use
`-- QuotaError    this user has enough of it already
"""


class ServiceError(Exception):
    """The message goes to the caller."""


class CidError(ServiceError):
    """No CID can be given out."""


class QuotaError(ServiceError):
    """One user must not use up what is there for all."""
