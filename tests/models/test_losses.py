"""The objectives: closed forms of a linear discriminator, difference quotients, and numbers worked out elsewhere."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.models.losses import OBJECTIVES, relativistic_discriminator, relativistic_generator

FIXTURE = Path(__file__).resolve().parents[3] / "shared" / "design" / "r3gan_fixture.json"
NO_CONDITION = torch.zeros(3, 0)


def same(images: Tensor) -> Tensor:
    return images


class Linear(nn.Module):
    """D(x, c) = w . x + v . c + b: its gradient in x is w everywhere."""

    def __init__(self, condition: int = 0) -> None:
        super().__init__()
        values = torch.linspace(-1, 1, 12, dtype=torch.float64)
        self.weight, self.bias = nn.Parameter(values), nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.label = nn.Parameter(torch.ones(condition, dtype=torch.float64))

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight + condition.double() @ self.label + self.bias


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_linear_discriminator_in_closed_form() -> None:
    network, real, fake = Linear(), images(3, 0), images(3, 1)
    terms = relativistic_discriminator(network, real, fake, NO_CONDITION, same)
    lead = (real - fake).flatten(1) @ network.weight
    torch.testing.assert_close(terms.adversarial, torch.log1p(torch.exp(-lead)))
    torch.testing.assert_close(terms.real_logits - terms.fake_logits, lead)
    square = network.weight.square().sum()
    torch.testing.assert_close(terms.penalty, torch.stack([2 * square] * 3))
    gradient = torch.autograd.grad(terms.penalty.sum(), network.weight)[0]
    torch.testing.assert_close(gradient, 3 * 2 * 2 * network.weight)


def test_the_penalty_is_taken_through_the_augmentation() -> None:
    network, real, fake = Linear(), images(3, 0), images(3, 1)
    terms = relativistic_discriminator(network, real, fake, NO_CONDITION, lambda batch: 3 * batch)
    torch.testing.assert_close(
        terms.penalty, torch.full((3,), 18.0, dtype=torch.float64) * network.weight.square().sum()
    )


def test_each_half_is_augmented_once_reals_first() -> None:
    real, fake, seen = images(3, 0), images(3, 1), []

    def record(batch: Tensor) -> Tensor:
        seen.append(batch.detach().clone())
        return batch

    relativistic_discriminator(Linear(), real, fake, NO_CONDITION, record)
    relativistic_generator(Linear(), real, fake, NO_CONDITION, record)
    assert [torch.equal(batch, half) for batch, half in zip(seen, [real, fake, real, fake], strict=True)] == [True] * 4


def test_without_penalty_it_is_zero_and_the_rest_is_the_same() -> None:
    real, fake = images(3, 0), images(3, 1)
    with_it = relativistic_discriminator(Linear(), real, fake, NO_CONDITION, same)
    without = relativistic_discriminator(Linear(), real, fake, NO_CONDITION, same, penalty=False)
    assert not without.penalty.any()
    torch.testing.assert_close(with_it.adversarial, without.adversarial)


def test_a_constant_discriminator_costs_log_two() -> None:
    network = Linear()
    nn.init.zeros_(network.weight)
    terms = relativistic_discriminator(network, images(3, 0), images(3, 1), NO_CONDITION, same)
    torch.testing.assert_close(terms.adversarial, torch.full((3,), math.log(2), dtype=torch.float64))


def test_what_depends_on_a_shared_label_alone_has_no_gradient() -> None:
    network, condition = Linear(2), torch.eye(2)[[0, 1, 1]]
    terms = relativistic_discriminator(network, images(3, 0), images(3, 1), condition, same)
    (terms.adversarial.sum() + terms.penalty.sum()).backward()
    assert network.label.grad is not None
    assert not network.label.grad.any()
    assert network.bias.grad is not None
    assert abs(network.bias.grad) < 1e-15


def test_the_generator_is_moved_by_its_fakes_alone() -> None:
    network, real, fake = Linear(), images(3, 0).requires_grad_(), images(3, 1).requires_grad_()
    terms = relativistic_generator(network, real, fake, NO_CONDITION, same)
    terms.adversarial.sum().backward()
    assert real.grad is None
    assert not terms.real_logits.requires_grad
    lead = ((real - fake).flatten(1) @ network.weight).detach()
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad.flatten(1), -torch.sigmoid(lead)[:, None] * network.weight.detach())


def test_the_discriminators_step_does_not_reach_the_generator() -> None:
    fake = images(3, 1).requires_grad_()
    terms = relativistic_discriminator(Linear(), images(3, 0), fake, NO_CONDITION, same)
    (terms.adversarial.sum() + terms.penalty.sum()).backward()
    assert fake.grad is None


def test_bfloat16_logits_are_judged_in_float32() -> None:
    class Halved(Linear):
        def forward(self, images: Tensor, condition: Tensor) -> Tensor:
            return super().forward(images.double(), condition).bfloat16()

    terms = relativistic_discriminator(Halved(), images(3, 0).float(), images(3, 1).float(), NO_CONDITION, same)
    assert {term.dtype for term in terms} == {torch.float32}


ABSOLUTE = {
    "non_saturating": (
        lambda real, fake: torch.log1p(torch.exp(-real)) + torch.log1p(torch.exp(fake)),
        lambda fake: torch.log1p(torch.exp(-fake)),
    ),
    "hinge": (lambda real, fake: (1 - real).clamp(min=0) + (1 + fake).clamp(min=0), lambda fake: -fake),
}


@pytest.mark.parametrize("name", ABSOLUTE)
def test_losses_of_absolute_logits_in_closed_form(name: str) -> None:
    network, real, fake, objective = Linear(), images(3, 0), images(3, 1), OBJECTIVES[name]
    terms = objective.discriminator(network, real, fake, NO_CONDITION, lambda batch: 3 * batch, True)
    logits = [3 * batch.flatten(1) @ network.weight + network.bias for batch in (real, fake)]
    torch.testing.assert_close(terms.adversarial, ABSOLUTE[name][0](*logits))
    torch.testing.assert_close([terms.real_logits, terms.fake_logits], logits)
    torch.testing.assert_close(terms.penalty, (9 * network.weight.square().sum()).expand(3))
    of_generator = objective.generator(network, real, fake, NO_CONDITION, same)
    torch.testing.assert_close(of_generator.adversarial, ABSOLUTE[name][1](logits[1] / 3 + network.bias * 2 / 3))
    assert of_generator.real_logits is None


class Curved(Linear):
    """D(x) = (w . x)^2: its gradient in x is 2 (w . x) w."""

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight).square()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_penalty_looks_at_reals_and_at_fakes_only_if_relativistic(name: str) -> None:
    network, real, fake = Curved(), images(3, 0), images(3, 1)
    terms = OBJECTIVES[name].discriminator(network, real, fake, NO_CONDITION, same, True)
    at_real, at_fake = (
        4 * (batch.flatten(1) @ network.weight).square() * network.weight.square().sum() for batch in (real, fake)
    )
    torch.testing.assert_close(terms.penalty, at_real + at_fake if name == "relativistic" else at_real)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_difference_quotients(name: str) -> None:
    network, real, fake = Curved(), images(3, 0), images(3, 1)

    def value(weight: Tensor) -> Tensor:
        network.weight.data = weight.detach()
        terms = OBJECTIVES[name].discriminator(network, real, fake, NO_CONDITION, same, True)
        return (terms.adversarial + 0.5 * terms.penalty).sum()

    weight, step = network.weight.detach().clone(), 1e-6
    (gradient,) = torch.autograd.grad(value(weight), network.weight)
    steps = step * torch.eye(len(weight), dtype=torch.float64)
    quotients = torch.stack([(value(weight + each) - value(weight - each)).detach() / (2 * step) for each in steps])
    torch.testing.assert_close(gradient, quotients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_gives_a_value_a_pair_that_no_other_pair_changes(name: str) -> None:
    network, real, fake, objective = Curved(), images(3, 0), images(3, 1), OBJECTIVES[name]
    whole = objective.discriminator(network, real, fake, NO_CONDITION, same, True)
    parts = [
        objective.discriminator(network, real[i : i + 1], fake[i : i + 1], NO_CONDITION[:1], same, True)
        for i in range(3)
    ]
    for index in range(4):
        torch.testing.assert_close(whole[index], torch.cat([part[index] for part in parts]))
    assert objective.generator(network, real, fake, NO_CONDITION, same).adversarial.shape == (3,)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_step_moves_its_own_network_alone(name: str) -> None:
    fake, objective = images(3, 1).requires_grad_(), OBJECTIVES[name]
    terms = objective.discriminator(Linear(), images(3, 0), fake, NO_CONDITION, same, True)
    (terms.adversarial.sum() + terms.penalty.sum()).backward()
    assert fake.grad is None
    objective.generator(Linear(), images(3, 0), fake, NO_CONDITION, same).adversarial.sum().backward()
    assert fake.grad is not None and fake.grad.any()


class Smooth(nn.Module):
    """Case 1: D(x) = v . tanh(A x + b) + c0."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        for name, key in (("inner", "A"), ("shift", "b"), ("outer", "v"), ("level", "c0")):
            setattr(self, name, nn.Parameter(torch.tensor(given[key], dtype=torch.float64)))

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ self.inner.T + self.shift) @ self.outer + self.level


class Kinked(nn.Module):
    """Case 2: a linear layer on a leaky convolution."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.tensor(given["Wc"], dtype=torch.float64).reshape(2, 1, 3, 3))
        self.outer = nn.Parameter(torch.tensor(given["Wl"], dtype=torch.float64))

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return functional.leaky_relu(functional.conv2d(images, self.kernel), 0.2).flatten(1) @ self.outer


@pytest.fixture
def fixture() -> dict[str, Any]:
    if not FIXTURE.exists():
        pytest.skip("the numbers worked out elsewhere are not here")
    loaded: dict[str, Any] = json.loads(FIXTURE.read_text("utf-8"))
    return loaded


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def generated(given: dict[str, Any], noise: str) -> tuple[Tensor, list[Tensor]]:
    weights = [tensor(given["Gw"]).requires_grad_(), tensor(given["Gb"]).requires_grad_()]
    made = torch.tanh(tensor(given[noise]) @ weights[0].T + weights[1])
    return made.reshape(tensor(given["x_real_d"]).shape), weights


def test_the_fixtures_smooth_case(fixture: dict[str, Any]) -> None:
    given, expected = fixture["case1"]["inputs"], fixture["case1"]["expected"]
    network, gamma = Smooth(given), fixture["case1"]["gamma"]
    terms = relativistic_discriminator(
        network, tensor(given["x_real_d"]), generated(given, "z_d")[0], NO_CONDITION, same
    )
    torch.testing.assert_close(terms.real_logits, tensor(expected["real_logits"]))
    torch.testing.assert_close(terms.fake_logits, tensor(expected["fake_logits"]))
    torch.testing.assert_close(terms.adversarial, tensor(expected["adv_d"]))
    torch.testing.assert_close(terms.penalty, tensor(expected["r1"]) + tensor(expected["r2"]))
    loss = (terms.adversarial + gamma / 2 * terms.penalty).mean()
    assert loss.item() == pytest.approx(expected["loss_d"], rel=1e-10)
    loss.backward()
    for name, key in (("inner", "A"), ("shift", "b"), ("outer", "v"), ("level", "c0")):
        torch.testing.assert_close(network.get_parameter(name).grad, tensor(expected["grad_d"][key]))
    fake, weights = generated(given, "z_g")
    of_generator = relativistic_generator(network, tensor(given["x_real_g"]), fake, NO_CONDITION, same)
    torch.testing.assert_close(of_generator.adversarial, tensor(expected["adv_g"]))
    of_generator.adversarial.mean().backward()
    for weight, key in zip(weights, ("Gw", "Gb"), strict=True):
        torch.testing.assert_close(weight.grad, tensor(expected["grad_g"][key]).reshape(weight.shape))


def test_the_fixtures_kinked_case_through_a_warp(fixture: dict[str, Any]) -> None:
    given, expected = fixture["case2"]["inputs"], fixture["case2"]["expected"]
    first = fixture["case1"]["inputs"]
    network, theta = Kinked(given), tensor(given["theta"])[None]

    def warp(batch: Tensor) -> Tensor:
        grid = functional.affine_grid(theta.expand(len(batch), 2, 3), list(batch.shape), align_corners=False)
        return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)

    real, fake = tensor(first["x_real_d"]), generated(first, "z_d")[0]
    terms = relativistic_discriminator(network, real, fake, NO_CONDITION, warp)
    torch.testing.assert_close(terms.penalty, tensor(expected["r1"]) + tensor(expected["r2"]))
    loss = (terms.adversarial + fixture["case2"]["gamma"] / 2 * terms.penalty).mean()
    assert loss.item() == pytest.approx(expected["loss_d"], rel=1e-9)
    loss.backward()
    for parameter, key in ((network.kernel, "Wc"), (network.outer, "Wl")):
        torch.testing.assert_close(parameter.grad, tensor(expected["grad_d"][key]).reshape(parameter.shape))
