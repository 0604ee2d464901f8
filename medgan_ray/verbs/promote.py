"""The verb ``promote``: make a version current, also an older one, which rolls back.

medgan-ray promote registry/heads@2
"""

from medgan_ray.artifacts import registry
from medgan_ray.config import Section
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store


class PromoteResult(Section):
    """Which version is current now, and which was before."""

    model: str
    current: int
    before: int
    """0: none was."""


def promote_version(version: str, why: str = "") -> PromoteResult:
    """Make a version current; the pointer's history tells when and why.

    Args:
        version: ``REGISTRY/NAME@N``.
        why: goes into the history.

    Raises:
        UsageError: if no number is named.
        InputError: if there is no such version, or it is damaged.
        StoreError: if the store fails.
    """
    address, number = registry.split(version)
    if number is None:
        raise UsageError("no version is named", version, "give REGISTRY/NAME@N")
    model = open_store(address)
    before = registry.current(model)
    reason = f"promoted: {' '.join(why.split())}" if why.strip() else "promoted"
    pointer = registry.promote(model, number, reason)
    return PromoteResult(model=f"{model.uri}@{number}", current=int(pointer["version"]), before=before)
