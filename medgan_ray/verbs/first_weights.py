"""The weights that a run starts from: recorded by digest and copied when it begins, taken over by every rank."""

from collections.abc import Callable, Mapping

from torch import nn

from medgan_ray.artifacts import checkpoints, runs, transfer
from medgan_ray.artifacts.tensors import weights_sha256
from medgan_ray.errors import UsageError
from medgan_ray.host import Host
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import Receives, Task
from medgan_ray.verbs.config import Config

_INIT = "init_weights"


def record(run: Store, options: Config, build: Callable[[], Task]) -> dict[str, str]:
    """Return the SHA-256 of the weights to start from, as ``run.json`` records it; a new run gets its copy of them.

    Args:
        run: the run's store.
        options: names them in ``train.init_from``; empty: none.
        build: makes the task whose networks they are to fit.

    Raises:
        UsageError: if they fit these networks nowhere.
        InputError: if there are none, or they are corrupt.
    """
    uri = options.train.init_from
    if not uri:
        return {}
    there = runs.read_json(run, runs.RUN)
    if there and there["config"]["train"].get("init_from") == uri:
        return {_INIT: there["config"]["train"][_INIT]}  # what became of the other run no longer matters
    donor = transfer.read(uri)
    if donor.model != options.model.name:
        raise UsageError(f"weights of {donor.model!r} for {options.model.name!r}", uri, f"set model.name={donor.model}")
    task = build()
    transfer.fit(_receiving(task), donor.tensors, task.frozen)
    return {_INIT: weights_sha256(donor.tensors) if there else transfer.keep(run, donor)}


def take_over(task: Task, run: Store, host: Host) -> None:
    """Give every rank the run's first weights; a checkpoint, if there is one, comes over them.

    Whether there is one is not asked here: rank 0 may write the first while another rank has yet to come this far.
    """
    digest = runs.read(run)["config"]["train"].get(_INIT)
    if not digest:
        return
    fresh = transfer.fit(_receiving(task), transfer.kept(run, digest), task.frozen)
    if host.rank == 0 and not checkpoints.names(run):
        host.log(f"starts from weights {digest[:12]}; afresh: {', '.join(fresh) or 'nothing'}")


def _receiving(task: Task) -> Mapping[str, nn.Module]:
    return task.receives() if isinstance(task, Receives) else task.networks
