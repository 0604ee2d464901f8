"""Weights that a new run starts from: of another run, or of a published version, which holds one network alone.

    RUN/init/SHA256.safetensors   generator/… and, if they came from a run, discriminator/…, or recognizer/…; named by
                                  ``weights_sha256``

They are copied when the run begins, so that nothing it does depends on what becomes of the other run.
"""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medgan_ray.artifacts import checkpoints, registry, runs
from medgan_ray.artifacts.tensors import from_bytes, to_bytes, weights_sha256
from medgan_ray.artifacts.versions import DESCRIPTION, read_model
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store, open_store

FOLDER = "init"
_DISCRIMINATOR = "networks/discriminator/"
_PUBLISHED = {"recognize": "recognizer"}
"""Of each task which network a version holds; a generator unless it says otherwise."""


@dataclasses.dataclass(frozen=True)
class Donor:
    """Weights to start from: where they stood, the name of their networks, tensors ``NETWORK/…``."""

    uri: str
    model: str
    tensors: dict[str, Tensor]


def read(uri: str, log: Callable[[str], None] = lambda text: None) -> Donor:
    """Return the weights that a run or the folder of a version holds.

    The generator (or recognizer) is the averaged one of the run's best checkpoint, or the version's. The discriminator
    is that of the run's newest whole checkpoint: the one that has seen most.

    Raises:
        InputError: if ``uri`` is neither, or it is corrupt.
        StoreError: if the store fails.
    """
    store = open_store(uri)
    is_run = store.exists(runs.RUN)
    folder = store.child("best") if is_run else registry.folder(uri)
    if not folder or not folder.exists(DESCRIPTION):
        what = "no checkpoint yet" if is_run else "neither a run nor a version of a model"
        raise InputError(what, uri, "give train.init_from a run, REGISTRY/NAME@N or the folder of a model.json")
    weights, description = read_model(folder)
    network = _PUBLISHED.get(description.task, "generator")
    tensors = {f"{network}/{name}": value for name, value in weights.items()}
    found = checkpoints.newest(store, log) if is_run else None
    for name, value in (found.tensors if found else {}).items():
        if name.startswith(_DISCRIMINATOR):
            tensors[f"discriminator/{name.removeprefix(_DISCRIMINATOR)}"] = value
    return Donor(uri, str(description.model.get("name", "")), tensors)


def keep(run: Store, donor: Donor) -> str:
    """Copy the weights into a run that begins; return their SHA-256."""
    digest = weights_sha256(donor.tensors)
    run.replace(f"{FOLDER}/{digest}.safetensors", to_bytes(donor.tensors))
    return digest


def kept(run: Store, digest: str) -> dict[str, Tensor]:
    """Return the weights that ``keep`` copied.

    Raises:
        InputError: if they are missing or do not match the digest.
    """
    key = f"{FOLDER}/{digest}.safetensors"
    tensors = from_bytes(run.read(key), f"{run.uri}/{key}")
    if weights_sha256(tensors) != digest:
        raise InputError("weights do not match their SHA-256", f"{run.uri}/{key}", "give the run another name")
    return tensors


def fit(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], frozen: frozenset[str]) -> list[str]:
    """Copy weights into networks wherever name and shape fit; return the names that start afresh.

    A recognizer takes those of a recognizer, its trunk also those of a discriminator.

    Args:
        networks: ``generator`` and ``discriminator``, or ``recognizer``; and ``average``, which begins as the first.
        tensors: ``NETWORK/…``, as ``Donor`` holds them.
        frozen: names of the parameters of the last network that will not be trained.

    Raises:
        UsageError: if no weight of the first network fits, or one that is frozen does not.
    """
    fresh = []
    trained = [name for name in ("generator", "discriminator", "recognizer") if name in networks]
    for network in trained:
        own = networks[network].state_dict()
        given = {name: _given(network, name, tensors) for name in own}
        fitting = {name: value for name, value in given.items() if value is not None and value.shape == own[name].shape}
        if network == trained[0] and not any(value.ndim > 1 for value in fitting.values()):
            raise UsageError(f"no weight fits the {network}", "train.init_from", "give it the same model and size")
        missing = sorted(frozen - fitting.keys()) if network == trained[-1] else []
        if missing:
            advice = "give a run of the same channels and layers, or freeze fewer"
            raise UsageError(f"{missing[0]} would be frozen and is not there", "train.init_from", advice)
        with torch.no_grad():
            for name, value in fitting.items():
                own[name].copy_(value)
        fresh += [f"{network}/{name}" for name in own if name not in fitting]
    if "average" in networks:
        networks["average"].load_state_dict(networks[trained[0]].state_dict())
    return fresh


def _given(network: str, name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return the weight that a network's own one takes, None if there is none."""
    if network == "recognizer" and name == "offset":
        return None  # how common classes are is the new run's own matter
    found = tensors.get(f"{network}/{name}")
    if found is None and network == "recognizer" and name.startswith("trunk."):
        found = tensors.get(f"discriminator/{name.removeprefix('trunk.')}")
    return found
