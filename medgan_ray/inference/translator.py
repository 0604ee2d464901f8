"""Open a trained translator and apply it; no Ray needed.

An image of any size is taken: a large one goes through in tiles that overlap and are faded into each other, in memory
that does not grow with it. What comes out depends on (weights, image) alone.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray.artifacts.versions import Description, read_model
from medgan_ray.errors import UsageError
from medgan_ray.inference import networks
from medgan_ray.inference.model import model_store
from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.translator import MULTIPLE, Given, factor
from medgan_ray.tasks.protocol import TrainSettings

TILE, OVERLAP, MARGIN = 320, 96, 44
"""Pixels of a side of a tile, how far two share them, and how far from its edge a tile's answer still depends on what
lies beyond, which has no weight: all in what comes out."""


class TranslatorModel:
    """A translator with what is known about it.

    Attributes:
        uri: where it was opened.
        card: its description.
        given: what it takes.
        factor: how many times finer than what it takes its answer is.
    """

    def __init__(self, uri: str, tensors: dict[str, Tensor], card: Description) -> None:
        self.uri, self.card = uri, card
        settings = TrainSettings.parse(card.translation)
        self.given: Given = settings.given
        self.head = settings.head
        self.factor = factor(self.given)
        model = ModelSettings.parse(card.model)
        network = catalog.build_translator(model, self.given, Shape(card.channels, *card.size), seed=0)
        self._network = networks.placed(network, tensors, uri)

    @property
    def version(self) -> str:
        """What names these weights in an answer."""
        return self.card.version

    def translate(self, image: NDArray[np.uint16], trusted: NDArray[np.bool_] | None = None) -> NDArray[np.uint16]:
        """Return the translation of one image, uint16 [C, H * factor, W * factor] over the model's intensity map.

        Args:
            image: uint16 [C, H, W] over that map.
            trusted: of given=hole, which pixels are known, [H, W]; None: all.

        Raises:
            UsageError: for another number of channels, or a mask of another shape.
        """
        if image.ndim != 3 or image.shape[0] != self.card.channels:
            raise UsageError(
                f"an image of shape {image.shape}", self.uri, f"this model takes {self.card.channels} channels"
            )
        height, width = (side * self.factor for side in image.shape[1:])
        mask = np.ones((height, width), bool) if trusted is None else trusted
        if mask.shape != (height, width):
            raise UsageError(f"a mask of shape {mask.shape}", self.uri, f"give [{height}, {width}]")
        total = np.zeros((image.shape[0], height, width), np.float32)
        weights = np.zeros((height, width), np.float32)
        for rows, columns in tiles(height, width):
            found = self._tile(image, mask, rows, columns)
            fade = _fade(rows, height)[:, None] * _fade(columns, width)[None]
            total[:, rows, columns] += found * fade
            weights[rows, columns] += fade
        levels = ((total / weights).clip(-1, 1) + 1) * np.float32(32767.5)
        stored: NDArray[np.uint16] = levels.round().astype(np.uint16)
        return np.where(mask, image, stored) if self.given == "hole" else stored

    @torch.inference_mode()
    def _tile(
        self, image: NDArray[np.uint16], mask: NDArray[np.bool_], rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """Return the translation of a part, in [-1, 1]."""
        coarse = tuple(slice(each.start // self.factor, each.stop // self.factor) for each in (rows, columns))
        known = torch.from_numpy(mask[rows, columns].astype(np.float32))[None, None].to(networks.device())
        pixels = networks.pixels(image[None, :, coarse[0], coarse[1]])
        given = pixels * known if self.given == "hole" else pixels
        found: NDArray[np.float32] = self._network(given, known)[0].float().cpu().numpy()
        return found


def tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of an image, rows first; an image that is not much larger than a tile is one."""
    for rows in _spans(height):
        for columns in _spans(width):
            yield rows, columns


def load_translator(uri: str) -> TranslatorModel:
    """Open the translator that a run (its best checkpoint), a search (its winner) or a version holds.

    Raises:
        InputError: if there is none, or it is corrupt.
        UsageError: if it is a model of another task.
        StoreError: if the store fails.
    """
    tensors, card = read_model(model_store(uri))
    if card.task != "translate":
        raise UsageError(f"a model of task={card.task} translates nothing", uri, "give one of task=translate")
    return TranslatorModel(uri, tensors, card)


def _spans(length: int) -> list[slice]:
    """Return parts of ``TILE`` that begin at multiples of what the network halves, the last one at the end."""
    if length <= TILE + OVERLAP:
        return [slice(0, length)]
    step = TILE - OVERLAP
    starts = [*range(0, length - TILE, step), (length - TILE + MULTIPLE - 1) // MULTIPLE * MULTIPLE]
    return [slice(start, min(start + TILE, length)) for start in starts]


def _fade(part: slice, length: int) -> NDArray[np.float32]:
    """Return the weights of a part along one side: rising over the overlap where another part lies beside it."""
    places = np.arange(part.start, part.stop, dtype=np.float32)
    rising = OVERLAP - 2 * MARGIN
    before = (places - part.start + 1 - MARGIN) / rising if part.start > 0 else np.ones_like(places)
    after = (part.stop - places - MARGIN) / rising if part.stop < length else np.ones_like(places)
    weights: NDArray[np.float32] = np.minimum(before, after).clip(0, 1)
    return weights
