"""A recognizer takes any size and any number of channels, and what it says of a scan depends on that scan alone."""

import pytest
import torch

from medgan_ray.errors import UsageError
from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Shape

SETTINGS = ModelSettings(name="residual", recognizer_width=8)


def built(shape=(1, 32, 32), outputs=3, seed=0, settings=SETTINGS):
    return catalog.build_recognizer(settings, Shape(*shape), outputs, seed)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 32, 32), (3, 64, 48), (2, 33, 50)])
def test_any_channels_and_sizes_are_taken(shape):
    network = built(shape)
    images = torch.rand(2, *shape) * 2 - 1
    assert network(images).shape == (2, 3) and network.features(images).shape == (2, network.width)


def test_weights_are_a_function_of_the_seed_and_a_fresh_network_prefers_nothing():
    first, again, other = built(seed=1), built(seed=1), built(seed=2)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.trunk.stem.weight, other.trunk.stem.weight)
    assert torch.equal(first(torch.rand(2, 1, 32, 32)), torch.zeros(2, 3))


def test_an_answer_depends_on_no_other_scan():
    network, images = built(), torch.randn(6, 1, 32, 32)
    torch.nn.init.normal_(network.head.weight)
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)
        assert alone.std() > 0.01


def test_it_learns_to_tell_a_bright_half_from_a_dark_one():
    network, draw = built(outputs=2), torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 2
    images = torch.randn(32, 1, 32, 32, generator=draw)
    images[..., :16] += (2 * labels - 1)[:, None, None, None]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert (network(images).argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("shape", "width", "message"), [((1, 7, 32), 8, "at least 8"), ((1, 32, 32), 12, "multiple of 8")]
)
def test_what_cannot_be_built_is_refused(shape, width, message):
    with pytest.raises(UsageError, match=message):
        built(shape, settings=ModelSettings(name="residual", recognizer_width=width))


@pytest.mark.parametrize("name", ["residual", "dcgan", "r3gan", "stylegan2", "efficientnet-lite0"])
def test_every_trunk_tells_as_much_as_it_says_and_learns(name):
    width = {"efficientnet-lite0": None, "r3gan": 32}.get(name, 8)
    network = built((1, 32, 32), settings=ModelSettings(name=name, recognizer_width=width))
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    described = network.described(images)
    assert described.shape == (3, sum(network.trunk.widths))
    torch.testing.assert_close(network.features(images), network.seen(described))
    assert network.width == (
        described.shape[1] if name in ("dcgan", "r3gan", "stylegan2") else network.trunk.widths[-1]
    )
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(1))
    loss = torch.nn.functional.cross_entropy(network(images), torch.tensor([0, 1, 2]))
    first = next(parameter for parameter in network.trunk.parameters() if parameter.ndim == 4)
    (gradient,) = torch.autograd.grad(loss, [first])
    assert gradient.abs().max() > 0


def test_lite0_s_statistics_are_those_it_came_with():
    network = built((3, 40, 40), settings=ModelSettings(name="efficientnet-lite0"))
    network.train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(network.described(images)[:1], network.described(images[:1]), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    with pytest.raises(UsageError, match="it takes 1 or 3"):
        network(torch.rand(2, 2, 40, 40))
    with pytest.raises(UsageError, match="has its own: leave it out"):
        built(settings=ModelSettings(name="efficientnet-lite0", recognizer_width=8))
