"""Whether clones on this host share memory: found out by the first one, once per boot of the host."""

import logging

from avf import facts
from avf.confine import Level, explain_confinement

_FACT = "clones-share-memory"

log = logging.getLogger(__name__)


def shares_memory(*, proved: bool = False) -> bool:
    """Whether a clone is to begin with memory that is shared until it is written to, as far as is known.

    `proved`: only if another one did. Raises ConfinementError as `explain_confinement` does.
    """
    if explain_confinement().level is Level.NONE:
        return False
    known = facts.recall(_FACT)
    return known is True or (known is None and not proved)


def remember_sharing() -> None:
    """A clone shares memory."""
    if facts.recall(_FACT) is not True:
        facts.remember(_FACT, True)


def never_share_memory(why: str) -> None:
    """Clones have copies of their template's memory from now on."""
    facts.remember(_FACT, why)
    log.warning("clones have a copy each of their template's memory: %s", why)
