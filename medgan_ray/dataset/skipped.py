"""Which shards a run goes on without: RUN/skipped.json, which every rank reads when it starts.

Who finds a shard corrupt adds its name by compare and swap and ends; started again, every rank leaves it out from the
newest checkpoint on. So what is seen at a position stays a pure function of what is on disk.
"""

import json

from medgan_ray.config import json_object
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError
from medgan_ray.store import Store

SKIPPED = "skipped.json"


def read_skipped(run: Store) -> tuple[str, ...]:
    """Return the SHA-256 of the shards that a run goes on without, sorted."""
    data, _ = run.read_version(SKIPPED)
    return _names(data, run)


def add_skipped(run: Store, sha256: str) -> None:
    """Add a shard to those that a run goes on without."""
    while True:
        data, version = run.read_version(SKIPPED)
        names = _names(data, run)
        if sha256 in names or run.swap(SKIPPED, canonical({"shards": sorted({*names, sha256})}), version):
            return


def _names(data: bytes | None, run: Store) -> tuple[str, ...]:
    if data is None:
        return ()
    names = json_object(data, f"{run.uri}/{SKIPPED}").get("shards")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("not a list of shards", f"{run.uri}/{SKIPPED}", f"restore it ({json.dumps(names)[:80]})")
    return tuple(sorted(names))
