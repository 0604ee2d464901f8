"""What every network of the catalog promises, checked by the test file of each."""

from types import ModuleType

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Networks, Shape

SQUARES = tuple(Shape(1, side, side) for side in (32, 64, 128, 256, 512))
ODD = (Shape(2, 96, 64), Shape(3, 64, 96), Shape(3, 512, 384))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(n: int, width: int) -> Tensor:
    return torch.eye(max(1, width))[torch.arange(n) % max(1, width)][:, :width]


def check_weights_are_a_function_of_the_seed(settings: ModelSettings) -> None:
    before = torch.random.get_rng_state()
    made = [catalog.build(settings, Shape(1, 32, 32), 3, seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = ({**nets.generator.state_dict(), **nets.discriminator.state_dict()} for nets in made)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = {name for name, value in first.items() if value.numel() > 1 and value.std() > 0}
    assert len(drawn) >= 6
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def check_an_image_is_judged_by_itself(settings: ModelSettings, condition: int) -> None:
    """The gradient of a logit in another image is exactly zero, and no division of a batch changes a logit."""
    network = catalog.build(settings, Shape(2, 32, 32), condition, 0).discriminator.double()
    images, given = normal(4, 2, 32, 32).double().requires_grad_(), labels(4, condition).double()
    logits = network(images, given)
    (gradient,) = torch.autograd.grad(logits[1], images, retain_graph=True)
    assert gradient[1].abs().max() > 0
    assert not gradient[[0, 2, 3]].any()
    for sizes in ([1, 1, 1, 1], [3, 1], [2, 2]):
        parts = zip(images.split(sizes), given.split(sizes), strict=True)
        torch.testing.assert_close(torch.cat([network(*part) for part in parts]), logits, rtol=0, atol=1e-12)


def check_an_image_is_drawn_by_itself(settings: ModelSettings, condition: int) -> None:
    network = catalog.build(settings, Shape(1, 32, 32), condition, 0).generator.double()
    noise, given = normal(5, settings.latent).double(), labels(5, condition).double()
    images = network(noise, given)
    for sizes in ([1] * 5, [2, 3]):
        parts = zip(noise.split(sizes), given.split(sizes), strict=True)
        torch.testing.assert_close(torch.cat([network(*part) for part in parts]), images, rtol=0, atol=1e-12)


def check_a_condition_changes_both(settings: ModelSettings) -> None:
    networks = catalog.build(settings, Shape(1, 32, 32), 2, 0)
    one, other = torch.eye(2)[:1], torch.eye(2)[1:]
    noise, image = normal(1, settings.latent), normal(1, 1, 32, 32)
    assert (networks.generator(noise, one) - networks.generator(noise, other)).abs().max() > 1e-4
    assert (networks.discriminator(image, one) - networks.discriminator(image, other)).abs() > 1e-4


def check_the_penalty_has_its_gradient(settings: ModelSettings) -> None:
    """The gradient of R1 in the weights, along a random direction, equals the difference quotient in float64."""
    network = catalog.build(settings, Shape(1, 16, 16), 0, 0).discriminator.double()
    images, none = normal(2, 1, 16, 16).double().requires_grad_(), torch.zeros(2, 0).double()
    weights = [weight for name, weight in network.named_parameters() if not name.endswith("bias")]
    with torch.no_grad():  # zeros would hide the paths behind them
        for index, weight in enumerate(weights):
            weight.add_(0.1 * normal(*weight.shape, seed=index).double())
    directions = [normal(*weight.shape, seed=100 + index).double() for index, weight in enumerate(weights)]

    def penalty() -> Tensor:
        (gradient,) = torch.autograd.grad(network(images, none).sum(), images, create_graph=True)
        return gradient.square().sum()

    gradients = torch.autograd.grad(penalty(), weights)
    slope = sum((left * right).sum() for left, right in zip(gradients, directions, strict=True))
    values = []
    for step in (1e-8, -2e-8):  # so short that hardly a leaky ReLU turns over
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight.add_(step * direction)
        values.append(penalty().detach())
    torch.testing.assert_close(slope, (values[0] - values[1]) / 2e-8, rtol=1e-4, atol=1e-6)


def check_a_step_both_ways(settings: ModelSettings, shape: Shape, condition: int) -> None:
    """Preset widths: images have the size asked for, and a batch of two goes forward and backward, penalty and all."""
    networks = catalog.build(settings, shape, condition, 0)
    given = labels(2, condition)
    images = networks.generator(normal(2, settings.latent), given)
    assert images.shape == (2, *shape) and 0.05 < images.detach().std() < 3
    _step(networks, images, given)


def check_shapes_without_memory(module: ModuleType, name: str, shape: Shape, condition: int) -> None:
    """The shapes alone, with torch's fake tensors, which compute nothing."""
    settings = catalog.settled(ModelSettings(name=name), shape)
    with FakeTensorMode(), torch.no_grad():
        generator = module.Generator(settings.latent, condition, settings.generator_width, shape)
        networks = Networks(generator, module.Discriminator(condition, settings.discriminator_width, shape))
        given = torch.zeros(2, condition)
        images = networks.generator(torch.zeros(2, settings.latent), given)
        assert images.shape == (2, *shape)
        assert networks.discriminator(images, given).shape == (2,)


def _step(networks: Networks, images: Tensor, given: Tensor) -> None:
    fake = images.detach().requires_grad_()
    logits = networks.discriminator(fake, given)
    assert (logits.shape, logits.dtype) == ((2,), torch.float32)
    (gradient,) = torch.autograd.grad(logits.sum(), fake, create_graph=True)
    weights = list(networks.discriminator.parameters())
    found = torch.autograd.grad(gradient.square().sum(), weights, allow_unused=True)
    assert sum(each is not None for each in found) >= len(weights) // 2
    torch.autograd.grad(networks.discriminator(images, given).sum(), list(networks.generator.parameters()))
