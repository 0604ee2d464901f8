"""Search spaces: YAML with ``ray.tune``'s own distribution names, checked before anything starts.

    metric: score
    trials: 12
    images: 20000
    scheduler: asha
    searcher: random
    space:
      train.lr: {loguniform: [3.0e-4, 3.0e-3]}
      model.name: {choice: [dcgan, r3gan]}

With the searcher ``random``, trial i is a function of (seed, i) alone, so that a search goes on as it was begun.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from medgan_ray import seeds
from medgan_ray.config import Section, expand, read_yaml, set_dotted
from medgan_ray.errors import UsageError, nearest
from medgan_ray.on_ray.settings import PlacedConfig

ARGUMENTS = {"uniform": 2, "loguniform": 2, "quniform": 3, "randint": 2, "lograndint": 2, "choice": 0}
"""Distributions, and how many numbers each takes; a choice takes any number of anything."""
FIXED = frozenset({"images", "workers", "time_limit_s", "task", "size", "ingest", "split", "ray", "tune", "serve"})
"""First components of keys that are not a trial's to choose."""


class Space(Section):
    """What a search may try, and how it decides."""

    metric: Literal["score", "whole_ratio", "patches_ratio"] = "score"
    """The figure by which a trial is judged; lower is better."""
    trials: int = Field(12, ge=1)
    """How many configurations are tried."""
    images: int = Field(20_000, gt=0)
    """Images a trial sees if it isn't stopped early."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha stops trials of one worker that are worse than the median at 1/7, 2/7 and 4/7 of their images."""
    searcher: Literal["random"] = "random"
    """Where configurations come from."""
    space: dict[str, dict[str, list[Any]]] = Field(min_length=1)
    """Dotted keys, each with one distribution."""

    @field_validator("space")
    @classmethod
    def _distributions(cls, space: dict[str, dict[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
        for key, law in space.items():
            if len(law) != 1:
                raise ValueError(f"{key}: give one distribution")
            ((name, arguments),) = law.items()
            if name not in ARGUMENTS:
                raise ValueError(f"{key}: unknown distribution {name!r}, {nearest(name, ARGUMENTS)}")
            _check_arguments(key, name, arguments)
        return space


def read_space(path: str) -> Space:
    """Return the search space that a YAML file describes.

    Raises:
        InputError: if the file is missing.
        UsageError: for an unknown key or distribution, an empty choice, or values that the configuration refuses.
    """
    values = read_yaml(path)
    values["space"] = _flat(values.get("space") or {})
    return check_space(Space.parse(values, where=path), path)


def check_space(space: Space, where: str) -> Space:
    """Return ``space`` if the configuration takes the values at each distribution's ends, and each choice.

    Raises:
        UsageError: naming the key or value.
    """
    for key, law in space.space.items():
        if key.partition(".")[0] in FIXED:
            raise UsageError(f"{key} can't be searched", where, "give it as key=value for all trials")
        ((name, arguments),) = law.items()
        for value in arguments if name == "choice" else arguments[:2]:
            PlacedConfig.parse(expand({key: value}), where=where)
    return space


def load_space(path: str) -> dict[str, Any]:
    """Return a space's distributions as ``ray.tune`` objects, by dotted key, for a ``Tuner`` of one's own."""
    return domains(read_space(path))


def domains(space: Space) -> dict[str, Any]:
    """Return a space's distributions as ``ray.tune`` objects, by dotted key."""
    from ray import tune

    found = {}
    for key, law in space.space.items():
        ((name, arguments),) = law.items()
        found[key] = tune.choice(arguments) if name == "choice" else getattr(tune, name)(*arguments)
    return found


def draw(space: Space, seed: int, number: int) -> dict[str, Any]:
    """Return the dotted keys and values of trial ``number``, a function of (space, seed, number) alone."""
    values = {}
    for key, law in sorted(space.space.items()):
        ((name, arguments),) = law.items()
        share = float(seeds.generator("search", seed, number, key).random())
        values[key] = _value(name, arguments, share)
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested sections for dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        set_dotted(found, key, value)
    return found


def _value(name: str, arguments: list[Any], share: float) -> Any:
    if name == "choice":
        return arguments[int(share * len(arguments))]
    low, high = float(arguments[0]), float(arguments[1])
    if name.startswith("log"):
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    if name.endswith("randint"):
        return min(int(value), int(high) - 1)
    if name == "quniform":
        step = float(arguments[2])
        return round(value / step) * step
    return float(f"{value:.6g}")


def _check_arguments(key: str, name: str, arguments: list[Any]) -> None:
    if name == "choice":
        if not arguments:
            raise ValueError(f"{key}: the choice is empty")
        return
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in arguments)
    if len(arguments) != ARGUMENTS[name] or not numbers:
        raise ValueError(f"{key}: {name} takes {ARGUMENTS[name]} numbers")
    if arguments[0] >= arguments[1]:
        raise ValueError(f"{key}: {arguments[0]} is not below {arguments[1]}")
    if name.startswith("log") and arguments[0] <= 0:
        raise ValueError(f"{key}: a logarithmic range starts above 0")


def _flat(space: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted keys for nested ones, down to the distributions."""
    found: dict[str, Any] = {}
    for key, value in space.items():
        inner = isinstance(value, Mapping) and value and all(isinstance(each, Mapping) for each in value.values())
        found |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
