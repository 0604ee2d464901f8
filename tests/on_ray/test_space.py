"""Search spaces: checked before anything starts; draws are functions of seed and number."""

from pathlib import Path
from typing import Any

import pytest

from medgan_ray import load_space
from medgan_ray.errors import InputError, UsageError
from medgan_ray.on_ray.space import Space, draw, read_space

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "search_spaces").glob("*.yaml"))
QUICK = next(path for path in SHIPPED if path.name == "quick.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_are_sound_and_become_distributions_of_ray_tune(path: Path) -> None:
    from ray.tune.search.sample import Domain

    space = read_space(str(path))
    assert space.trials >= 6
    assert all(isinstance(domain, Domain) for domain in load_space(str(path)).values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {train.lr: {choice: []}}", "the choice is empty"),
        ("space: {train.lrr: {choice: [1]}}", "unknown key 'train.lrr'.*did you mean 'lr'"),
        ("space: {model.name: {choice: [dcgan, r3gen]}}", "r3gen"),
        ("space: {train.lr: {logunifrom: [1, 2]}}", "did you mean 'loguniform'"),
        ("space: {train.lr: {loguniform: [0, 1]}}", "starts above 0"),
        ("space: {train.lr: {uniform: [2, 1]}}", "2 is not below 1"),
        ("space: {train.lr: {uniform: [1]}}", "takes 2 numbers"),
        ("space: {train.lr: {uniform: [-1, 1]}}", "train.lr"),
        ("space: {workers: {choice: [1, 2]}}", "can't be searched"),
        ("space: {}", "space"),
        ("trails: 3\nspace: {train.lr: {choice: [1]}}", "did you mean 'trials'"),
        ("scheduler: hyperband\nspace: {train.lr: {choice: [1]}}", "scheduler"),
    ],
)
def test_mistakes_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        read_space(str(path))
    assert "\n" not in str(refused.value)


def test_a_missing_space_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        read_space("nowhere.yaml")


def _space(**space: Any) -> Space:
    return Space.parse({"space": space})


def test_draws_depend_on_seed_and_number_and_keep_to_their_range() -> None:
    space = _space(
        **{
            "train.lr": {"loguniform": [1e-4, 1e-2]},
            "train.gamma": {"choice": [5, 10]},
            "augment.shift": {"randint": [0, 3]},
            "train.lr_final": {"quniform": [0.1, 0.5, 0.1]},
        }
    )
    drawn = [draw(space, 0, number) for number in range(200)]
    assert drawn == [draw(space, 0, number) for number in range(200)]
    assert drawn[0] != draw(space, 1, 0)
    rates = [values["train.lr"] for values in drawn]
    assert 1e-4 <= min(rates) < 2e-4 and 5e-3 < max(rates) <= 1e-2
    assert 70 < sum(rate < 1e-3 for rate in rates) < 130, "half of a logarithmic range lies below its middle"
    assert {values["train.gamma"] for values in drawn} == {5, 10}
    assert {values["augment.shift"] for values in drawn} == {0, 1, 2}
    assert {round(values["train.lr_final"], 6) for values in drawn} == {0.1, 0.2, 0.3, 0.4, 0.5}
