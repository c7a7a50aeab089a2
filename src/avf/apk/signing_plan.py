"""Which key signs with which scheme: from the keys, the lineage and the platforms that are given."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from avf.apk.errors import SigningError
from avf.apk.keys import SigningKey
from avf.apk.lineage import LineageNode
from avf.apk.signing import V3_1_MIN_SDK, Rotation
from avf.apk.verify import V2_SDK, V3_SDK, Scheme


class Plan(NamedTuple):
    """What `sign` is to be called with."""

    key: SigningKey
    others: tuple[SigningKey, ...]
    rotation: Rotation | None
    schemes: frozenset[Scheme]


def make_plan(
    keys: Sequence[SigningKey],
    lineage: Sequence[LineageNode] = (),
    *,
    min_sdk: int,
    max_sdk: int,
    enabled: Mapping[Scheme, bool | None],
    rotation_min_sdk: int = V3_1_MIN_SDK,
    targets_dev_release: bool = False,
) -> Plan:
    """Use each scheme that a platform from `min_sdk` to `max_sdk` needs, unless `enabled` says otherwise.

    With a lineage the newest key signs, and the oldest for platforms and schemes that know no rotation; keys between
    them must be in the lineage and are not used. SigningError if keys, lineage and schemes do not go together.
    """
    known = {
        Scheme.V1: min_sdk < V2_SDK,
        Scheme.V2: max_sdk >= V2_SDK,
        Scheme.V3: max_sdk >= V3_SDK,
    }
    choices = {scheme: enabled.get(scheme) for scheme in known}
    schemes = frozenset(
        s for s, choice in choices.items() if (known[s] if choice is None else choice)
    )
    if not schemes:
        raise SigningError("no scheme is left to sign with")
    if not lineage:
        return _without_lineage(keys, schemes)
    plan = _with_lineage(keys, lineage, schemes, min_sdk, rotation_min_sdk)
    if plan.rotation is None:
        return plan
    return plan._replace(rotation=plan.rotation._replace(targets_dev_release=targets_dev_release))


def _without_lineage(keys: Sequence[SigningKey], schemes: frozenset[Scheme]) -> Plan:
    if len(keys) > 1 and Scheme.V3 in schemes:
        raise SigningError("v3 has one signer: give a lineage that leads to it, or sign without v3")
    return Plan(keys[0], tuple(keys[1:]), None, schemes)


def _with_lineage(
    keys: Sequence[SigningKey],
    lineage: Sequence[LineageNode],
    schemes: frozenset[Scheme],
    min_sdk: int,
    rotation_min_sdk: int,
) -> Plan:
    places = {node.certificate: place for place, node in enumerate(lineage)}
    for key in keys:
        if key.certificate not in places:
            digest = hashlib.sha256(key.certificate).hexdigest()
            raise SigningError(f"the lineage does not hold the certificate with SHA-256 {digest}")
    ordered = sorted(keys, key=lambda key: places[key.certificate])
    oldest = ordered[0] if places[ordered[0].certificate] == 0 else None
    newest = ordered[-1]
    split = rotation_min_sdk >= V3_1_MIN_SDK and rotation_min_sdk > min_sdk
    unaware = [scheme.value for scheme in (Scheme.V1, Scheme.V2) if scheme in schemes]
    if oldest is None and (unaware or split):
        what = " and ".join(unaware) or f"platforms before SDK {rotation_min_sdk}"
        raise SigningError(f"the key of the lineage's first certificate must sign for {what}")
    if oldest is newest or Scheme.V3 not in schemes:
        return Plan(oldest or newest, (), None, schemes)
    nodes = tuple(lineage[: places[newest.certificate] + 1])
    return Plan(newest, (), Rotation(oldest, nodes, rotation_min_sdk), schemes)
