"""The running average: its formula, its limits, and that what it averages stays as it is."""

import pytest
import torch
from torch import nn

from medgan_ray.models import ema


def networks() -> tuple[nn.Module, nn.Module]:
    average, module = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(module.weight, 3.0)
    module.get_buffer("running_mean").fill_(5)
    return average, module


@pytest.mark.parametrize(("beta", "expected"), [(0.0, 3.0), (0.75, 1.5), (1.0, 1.0)])
def test_parameters_move_and_buffers_are_copied(beta: float, expected: float) -> None:
    average, module = networks()
    ema.update(average, module, beta)
    assert average.get_parameter("weight").tolist() == pytest.approx([expected] * 3)
    assert module.get_parameter("weight").tolist() == [3.0] * 3
    assert average.get_buffer("running_mean").tolist() == [5.0] * 3


def test_it_forgets_half_in_its_half_life() -> None:
    average, module = networks()
    for _ in range(10):
        ema.update(average, module, 0.5 ** (1 / 10))
    assert average.get_parameter("weight").tolist() == pytest.approx([2.0] * 3)


def test_it_leaves_no_graph() -> None:
    average, module = networks()
    ema.update(average, module, 0.5)
    assert average.get_parameter("weight").grad_fn is None
    torch.testing.assert_close(average.get_parameter("bias"), torch.zeros(3))
