"""Elastic worker groups: keeps Ray's view of what stands ready fresh, so that a lost or a new node counts at once.

Ray's coordinator of resources, an actor of the cluster, looks at the nodes every 20 s. A group that has just lost one
would be asked for at its old size, and wait in vain; here it is made to look every second for as long as a run goes on.
"""

import contextlib
import threading
from collections.abc import Iterator

LOOK_S = 1.0
ANSWER_S = 5.0
_ACTOR = "AutoscalingCoordinator"  # its name and its namespace, as Ray Train and Ray Data give it


@contextlib.contextmanager
def fresh_resources(elastic: bool) -> Iterator[None]:
    """Let Ray's coordinator look at the nodes every second until the block ends; does nothing for a fixed group."""
    if not elastic:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_look, args=(done,), name="medgan-ray-resources", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(ANSWER_S)


def _look(done: threading.Event) -> None:
    import ray
    from ray.exceptions import RayError

    while not done.wait(LOOK_S):
        # Not there before the run has asked for it, nor while the cluster is in trouble: the next look is soon.
        with contextlib.suppress(ValueError, RayError, TimeoutError):
            coordinator = ray.get_actor(_ACTOR, namespace=_ACTOR)
            ray.get(coordinator.get_reserved_resources.remote("medgan-ray", recompute=True), timeout=ANSWER_S)
