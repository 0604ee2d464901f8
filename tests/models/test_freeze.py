"""The earliest layers are those that see the input first, whatever the order they were declared in."""

import pytest
import torch
from torch import nn

from medgan_ray.errors import UsageError
from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.freeze import earliest


def discriminator(name: str, width: int) -> nn.Module:
    settings = ModelSettings(name=name, generator_width=width, discriminator_width=width)
    return catalog.build(settings, Shape(1, 16, 16), 0, seed=0).discriminator


IMAGE, CONDITION = torch.zeros(1, 1, 16, 16), torch.zeros(1, 0)


def test_layers_come_in_the_order_in_which_they_see_the_image() -> None:
    assert earliest(discriminator("dcgan", 4), 1, IMAGE, CONDITION) == ["stages.0.weight", "stages.0.bias"]
    names = earliest(discriminator("r3gan", 64), 8, IMAGE, CONDITION)
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    block = [f"blocks.0.{block}.{layer}" for block in (0, 1) for layer in ("widen", "mix", "narrow")]
    assert modules == ["image", *block, "blocks.1.0.widen"]


def test_a_parameter_of_a_module_that_holds_others_is_a_layer_of_its_own() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(2, 1)
            self.first = nn.Linear(2, 2)
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.first(values * self.scale))
            return out

    assert earliest(Scaled(), 2, torch.zeros(1, 2)) == ["scale", "first.weight", "first.bias"]


def test_something_must_be_left_to_train() -> None:
    network = discriminator("dcgan", 4)
    assert earliest(network, 2, IMAGE, CONDITION)[-1] == "stages.1.bias"
    with pytest.raises(UsageError, match="the discriminator has 3 layers"):
        earliest(network, 3, IMAGE, CONDITION)
