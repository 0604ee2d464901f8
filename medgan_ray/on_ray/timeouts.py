"""How soon a fault is noticed, and how long is waited for what may yet come: every timeout of Ray in one place.

A stopped process is told from a slow one by who answers: Ray Train's controller polls a thread of every worker that a
long step, a figure being drawn or a busy machine leaves free, and a stopped process doesn't. Only that wait is short.
Collectives wait long, for a slow rank; their broken connections end them when the group is torn down.
"""

import contextlib
import os
from collections.abc import Iterator

from medgan_ray.on_ray.settings import RaySettings

START = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
WAITS_FOR_NODES_S = 600.0
"""For a group of fixed size: nodes of an autoscaling cluster take minutes to come."""
FITS_S = 5.0
"""For an elastic group, which asks only for what stands ready: what is not there by then has just been lost."""

CORE = {
    # Ray's core asks every node each second. One that is gone refuses five times: 5 s. One that is silent is given
    # five times 5 s, so that a link that is cut for 20 s loses no node.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "5",
}
"""Read by the head when it starts: set for a local instance, to be set on the head of a cluster (docs/cluster.md)."""

TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "8",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "300",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "2",
}
"""Read by the controller of a run; Ray Train carries them from the driver to the controller and the workers."""

_SETTINGS = {
    "worker_health_check_timeout_s": "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S",
    "worker_group_start_timeout_s": START,
    "collective_timeout_s": "RAY_TRAIN_COLLECTIVE_TIMEOUT_S",
}


@contextlib.contextmanager
def applied(settings: RaySettings, elastic: bool) -> Iterator[None]:
    """Set the environment of a run while it is placed: what the configuration gives, else what stands there already."""
    values = {
        name: str(getattr(settings, field))
        for field, name in _SETTINGS.items()
        if field in settings.model_fields_set and getattr(settings, field) is not None
    }
    if START not in values and START not in os.environ:
        values[START] = str(FITS_S if elastic else WAITS_FOR_NODES_S)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
