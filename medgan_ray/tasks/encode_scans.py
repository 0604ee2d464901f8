"""The task ``encode``: an encoder to the latent space of a generator that stays as it is.

The encoder learns from scans, which the generator is to make again, and from what the generator makes, whose noise is
known (as in Perarnau et al., "Invertible conditional GANs for image editing", 2016, and f-AnoGAN's izi and ziz, Schlegl
et al., Medical Image Analysis 2019, in one). What is published is generator and encoder together. Noise depends on
(content digest, seed, position) alone.
"""

import copy
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan_ray import seeds
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dataset.shards import Samples
from medgan_ray.metrics.images import ssim
from medgan_ray.models import catalog, condition, ema
from medgan_ray.models.augment import Augment, AugmentSettings
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.encoder import Mirror, apart
from medgan_ray.tasks.placement import Placement
from medgan_ray.tasks.protocol import PUBLISHED, Share, TrainSettings, Values

NETWORK = "encoder"
BATCH = 50
FEWEST = 20
NOISE_WEIGHT = 0.5
"""Of the error in the noise of generated images, beside the difference of scans."""


class EncodeTask:
    """An encoder, its loss and its answers. See ``protocol.Task``, ``protocol.Answers`` and ``protocol.Receives``."""

    phases: tuple[str, ...] = (NETWORK,)
    first_decay = 0.9
    steadier = "lower train.lr"

    def __init__(
        self, manifest: Manifest, model: ModelSettings, train: TrainSettings, augment: AugmentSettings, seed: int
    ) -> None:
        """Build the networks; the generator gets its weights from ``train.init_from``."""
        self._classes = [len(labels.classes) for labels in manifest.labels]
        self._keys, self._latent = (manifest.content_digest, seed), model.latent
        shape = Shape(manifest.channels, *manifest.size)
        encoder = catalog.build_encoder(model, shape, seed)
        self._generator = catalog.build(model, shape, condition.width(self._classes), seed).generator
        mirror = Mirror(self._generator, copy.deepcopy(encoder)).requires_grad_(False)
        self.networks: dict[str, nn.Module] = {NETWORK: encoder, PUBLISHED: mirror}
        self.frozen = frozenset(name for name, _ in self._generator.named_parameters())
        self._placement = Placement(train.precision)
        for network in self.networks.values():
            self._placement.place(network)
        self._augment = Augment(augment, manifest.size, manifest.modality)

    def receives(self) -> dict[str, nn.Module]:
        """Return the generator, which must get all of its weights."""
        return {"generator": self._generator}

    def trained(self, phase: str) -> nn.Module:
        """Return the encoder."""
        return self.networks[phase]

    def losses(self, phase: str, share: Share, values: Values) -> Mapping[str, Tensor]:
        """Return the loss and its parts, summed over the share and divided by the global batch."""
        placement, encoder, stored = self._placement, self.networks[phase], share.samples.image
        images = placement.augmented(
            self._augment, placement.images(stored), share.positions, values.augment, *self._keys, "augment"
        )
        given = self._condition(share.samples.label)
        noise = placement.tensor(seeds.normal(share.positions, self._latent, *self._keys, "noise"))
        with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.autocast):
            with torch.no_grad():
                generated = self._generator(noise, given).to(placement.dtype)
            found = encoder(torch.cat([images, generated]))
            of_scans, of_generated = found.chunk(2)
            again = self._generator(of_scans, given).to(placement.dtype)
        difference = apart(again, images).sum() / share.global_batch
        missed = (of_generated - noise).square().mean(1).sum() / share.global_batch
        return {"loss": difference + NOISE_WEIGHT * missed, "difference": difference, "missed": missed}

    def after_step(self, values: Values) -> None:
        """Move the averaged encoder."""
        ema.update(cast(Mirror, self.networks[PUBLISHED]).encoder, self.networks[NETWORK], values.ema_beta)

    @torch.no_grad()
    def answers(self, samples: Samples) -> NDArray[np.float32]:
        """Return how far each scan is from what the generator makes of it, and how similar, float32 [n, 2]."""
        parts = [np.empty((0, 2), np.float32)]
        for start in range(0, len(samples), BATCH):
            rows = slice(start, start + BATCH)
            images = self._placement.images(samples.image[rows])
            again = self.networks[PUBLISHED](images, self._condition(samples.label[rows])).clamp(-1, 1)
            shown = (each.float().cpu().numpy() for each in (images, again))
            parts.append(np.stack([apart(again, images).float().cpu().numpy(), ssim(*shown)], 1).astype(np.float32))
        return np.concatenate(parts)

    def not_applicable(self, known: Samples) -> str:
        """Say how many scans there are, if they are too few."""
        return "" if len(known) >= FEWEST else f"holds {len(known)} scans, figures need {FEWEST}"

    def figures(self, answers: NDArray[np.float32], known: Samples) -> dict[str, float]:
        """Return the mean difference (``score``, images in [-1, 1]) and the mean structural similarity."""
        difference, alike = answers.astype(np.float64).mean(0).tolist()
        return {"score": difference, "ssim": alike}

    def _condition(self, labels: NDArray[np.int32]) -> Tensor:
        codes = torch.from_numpy(np.ascontiguousarray(labels))
        return condition.encode(codes, self._classes).to(self._placement.device, self._placement.dtype)
