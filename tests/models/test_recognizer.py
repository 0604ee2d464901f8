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
