"""A walk through a model's latent space: from one fixed noise vector to the next on the sphere, and back to the first.

High-dimensional normal noise lies near a sphere; a straight line between two vectors leaves it and shows images that
the generator never makes. So vectors are turned into each other (Shoemake, "Animating rotation with quaternion curves",
SIGGRAPH 1985), their lengths in proportion. A conditional model's classes come in turn, one fading into the next.
"""

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.inference.model import Model

FEWEST_STOPS, MOST_STOPS = 6, 12


def walk(model: Model, walkers: int, steps: int = 8) -> NDArray[np.uint16]:
    """Return the images of a closed walk, uint16 [stops * ``steps``, ``walkers``, C, H, W] over ``model.intensity``.

    There is a stop a class, 6 at least and 12 at most. The images depend on the weights and the arguments alone.

    Args:
        model: the generator.
        walkers: walks side by side; each begins at another class.
        steps: images from one stop to the next.
    """
    classes = len(model.classes)
    stops = min(max(classes, FEWEST_STOPS), MOST_STOPS)
    positions = np.arange(stops * walkers, dtype=np.int64)
    noise = seeds.normal(positions, model.settings.latent, model.card.weights, "walk").reshape(stops, walkers, -1)
    codes = np.add.outer(np.arange(stops), np.arange(walkers)) % classes if classes else np.full((stops, walkers), -1)
    conditions = model.conditions(codes.reshape(-1))
    given = conditions.reshape(stops, walkers, conditions.shape[1])
    share = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[:, None, None]
    frames = []
    for stop in range(stops):
        following = (stop + 1) % stops
        between = slerp(noise[stop], noise[following], share)
        faded = given[stop] * (1 - share) + given[following] * share
        inputs = [each.reshape(steps * walkers, each.shape[-1]) for each in (between, faded)]
        images = model.render(inputs[0], inputs[1])
        frames.append(images.reshape(steps, walkers, *images.shape[1:]))
    return np.concatenate(frames)


def slerp(first: NDArray[np.float32], last: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors (last axis) at ``share`` in [0, 1] of the way from ``first`` to ``last`` along the sphere."""
    lengths = [np.linalg.norm(each, axis=-1, keepdims=True) for each in (first, last)]
    cosine = (first * last).sum(-1, keepdims=True) / (lengths[0] * lengths[1])
    angle = np.arccos(cosine.clip(-1 + 1e-6, 1 - 1e-6))
    turned = np.sin((1 - share) * angle) * first / lengths[0] + np.sin(share * angle) * last / lengths[1]
    scaled: NDArray[np.float32] = turned / np.sin(angle) * (lengths[0] * (1 - share) + lengths[1] * share)
    return scaled.astype(np.float32)
