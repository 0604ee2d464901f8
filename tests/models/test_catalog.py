"""Every network by its public face: shapes, seeds, conditions, per-sample gradients, names from packages."""

import importlib.metadata
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from medgan_ray.errors import UsageError
from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Networks, Shape
from medgan_ray.models.losses import relativistic_discriminator, relativistic_generator

SMALL = {
    "dcgan": ModelSettings(name="dcgan", latent=8, generator_width=2, discriminator_width=2),
    "r3gan": ModelSettings(name="r3gan", latent=8, generator_width=32, discriminator_width=32),
    "stylegan2": ModelSettings(name="stylegan2", latent=8, generator_width=8, discriminator_width=8),
}
each_network = pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@each_network
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 64), (128, 128), (8, 12)])
@pytest.mark.parametrize("condition", [0, 5])
def test_shapes(settings: ModelSettings, size: tuple[int, int], condition: int) -> None:
    networks = catalog.build(settings, Shape(3, *size), condition, seed=0)
    given = torch.nn.functional.one_hot(torch.arange(2), 5).float()[:, :condition]
    images = networks.generator(normal(2, 8), given)
    assert images.shape == (2, 3, *size)
    logits = networks.discriminator(images, given)
    assert (logits.shape, logits.dtype) == ((2,), torch.float32)
    assert 0.05 < images.std() < 3


@each_network
def test_weights_are_a_function_of_the_seed_and_leave_torchs_own_draws_alone(settings: ModelSettings) -> None:
    before = torch.random.get_rng_state()
    networks = [catalog.build(settings, Shape(1, 32, 32), 3, seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = ({**nets.generator.state_dict(), **nets.discriminator.state_dict()} for nets in networks)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].any())


def test_the_same_weights_in_another_process() -> None:
    program = (
        "from medgan_ray.models import catalog as c; "
        "n = c.build(c.ModelSettings(generator_width=4), c.Shape(1, 32, 32), 0, 7); "
        "print(sum(float(p.detach().double().abs().sum()) for p in n.generator.parameters()))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    here = catalog.build(ModelSettings(generator_width=4), Shape(1, 32, 32), 0, 7)
    assert float(printed) == sum(float(p.detach().double().abs().sum()) for p in here.generator.parameters())


@each_network
def test_an_image_is_judged_by_itself(settings: ModelSettings) -> None:
    """What looks across samples would falsify the penalties."""
    network = catalog.build(settings, Shape(1, 32, 32), 0, 0).discriminator
    images, none = normal(4, 1, 32, 32), torch.zeros(4, 0)
    alone = torch.cat([network(images[i : i + 1], none[:1]) for i in range(4)])
    torch.testing.assert_close(network(images, none), alone, rtol=1e-4, atol=1e-5)


@each_network
def test_a_condition_matters_to_both_and_only_through_the_projection(settings: ModelSettings) -> None:
    networks = catalog.build(settings, Shape(1, 32, 32), 2, 0)
    one, other = torch.eye(2)[:1], torch.eye(2)[1:]
    noise = normal(1, 8)
    assert not torch.equal(networks.generator(noise, one), networks.generator(noise, other))
    images = normal(1, 1, 32, 32)
    sums = networks.discriminator(images, one) + networks.discriminator(images, other)
    torch.testing.assert_close(sums, networks.discriminator(images, one + other))
    assert networks.discriminator(images, torch.zeros(1, 2)).item() == 0


@each_network
@pytest.mark.parametrize("condition", [0, 3])
def test_every_weight_is_trained_by_the_two_steps(settings: ModelSettings, condition: int) -> None:
    """Twenty steps move every parameter (the blocks of r3gan begin at zero, so the first one can't)."""
    networks = catalog.build(settings, Shape(1, 16, 16), condition, 0)
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    _train(networks, condition, steps=20)
    level = "head.linear.bias"  # the level is free: its gradient is exactly zero without a condition
    for old, network in zip(before, networks, strict=True):
        still = {name for name, value in network.state_dict().items() if torch.equal(value, old[name])}
        assert still <= {level}


def _train(networks: Networks, condition: int, steps: int) -> None:
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3, (0.0, 0.9)) for network in networks]
    real, given = normal(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]][:, :condition]
    for step in range(steps):
        fake = networks.generator(normal(4, 8, seed=step), given)
        terms = relativistic_discriminator(networks.discriminator, real, fake, given, lambda x: x)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (terms.adversarial + terms.penalty).mean().backward()
        optimizers[1].step()
        relativistic_generator(networks.discriminator, real, fake, given, lambda x: x).adversarial.mean().backward()
        optimizers[0].step()


@each_network
def test_bfloat16_keeps_the_penalty(settings: ModelSettings) -> None:
    network = catalog.build(settings, Shape(1, 16, 16), 0, 0).discriminator
    real, fake, none = normal(2, 1, 16, 16), normal(2, 1, 16, 16, seed=1), torch.zeros(2, 0)
    exact = relativistic_discriminator(network, real, fake, none, lambda x: x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = relativistic_discriminator(network, real, fake, none, lambda x: x)
        coarse.penalty.sum().backward()
    torch.testing.assert_close(coarse.penalty, exact.penalty, rtol=0.05, atol=1e-3)


def test_dcgan_is_bounded_and_r3gan_starts_its_blocks_as_identities() -> None:
    images = catalog.build(SMALL["dcgan"], Shape(1, 32, 32), 0, 0).generator(100 * normal(2, 8), torch.zeros(2, 0))
    assert images.abs().max() <= 1
    generator = catalog.build(SMALL["r3gan"], Shape(1, 32, 32), 0, 0).generator
    last = [value for name, value in generator.named_parameters() if name.endswith("narrow.weight")]
    assert len(last) == 8
    assert not any(value.any() for value in last)


def test_resampling_keeps_a_constant_inside() -> None:
    from medgan_ray.models.r3gan import Resample

    ones = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(Resample(2, 2, up=True)(ones)[..., 2:-2, 2:-2], torch.ones(1, 2, 12, 12))
    torch.testing.assert_close(Resample(2, 2, up=False)(ones)[..., 1:-1, 1:-1], torch.ones(1, 2, 2, 2))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'r3gan'"):
        ModelSettings.parse({"name": "r3gen"})


@each_network
@pytest.mark.parametrize("size", [(30, 30), (4, 64), (64, 72)])
def test_a_size_that_cannot_be_halved_is_refused(settings: ModelSettings, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="size"):
        catalog.build(settings, Shape(1, *size), 0, 0)


def test_a_width_that_does_not_divide_into_groups_is_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        catalog.build(ModelSettings(name="r3gan", generator_width=40), Shape(1, 64, 64), 0, 0)


def their_builder(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    """Stand in for a network that a user's package brings."""
    return Networks(torch.nn.Identity(), torch.nn.Flatten())


def test_a_package_brings_a_network_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("theirs", f"{__name__}:their_builder", catalog.ENTRY_POINTS)
    found = importlib.metadata.EntryPoints([point])
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules["__main__"])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: found.select(**wanted))
    assert catalog.names() == ("dcgan", "r3gan", "stylegan2", "theirs")
    networks = catalog.build(ModelSettings(name="theirs"), Shape(1, 32, 32), 0, 0)
    assert isinstance(networks.discriminator, torch.nn.Flatten)
