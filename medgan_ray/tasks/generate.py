"""The task ``generate``: a generator and a discriminator under one of three objectives, label-conditional or not.

Noise, augmentation and the reals of a pair depend on (content digest, seed, position) alone, so any number of workers
draws the same. The discriminator and the generator see different reals in a step, as in R3GAN.
"""

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan_ray import seeds
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dataset.shards import Samples
from medgan_ray.models import catalog, condition, ema, freeze
from medgan_ray.models.augment import Augment, AugmentSettings
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.losses import OBJECTIVES
from medgan_ray.tasks.placement import Placement
from medgan_ray.tasks.protocol import PUBLISHED, Share, TrainSettings, Values

SAMPLE_BATCH = 50


class GenerateTask:
    """Networks, losses and samples of a GAN. See ``protocol.Task``, ``Generates`` and ``Probed``."""

    phases: tuple[str, ...] = ("discriminator", "generator")
    first_decay = 0.0
    steadier = "lower train.lr or raise train.gamma"

    def __init__(
        self, manifest: Manifest, model: ModelSettings, train: TrainSettings, augment: AugmentSettings, seed: int
    ) -> None:
        self._classes = [len(labels.classes) for labels in manifest.labels]
        self._keys = (manifest.content_digest, seed)
        self._train, self._latent = train, model.latent
        self._objective = OBJECTIVES[train.loss]
        shape = Shape(manifest.channels, *manifest.size)
        networks = catalog.build(model, shape, condition.width(self._classes), seed)
        self.networks: dict[str, nn.Module] = {
            "generator": networks.generator,
            "discriminator": networks.discriminator,
            PUBLISHED: copy.deepcopy(networks.generator).requires_grad_(False),
        }
        self.frozen = _freeze(networks.discriminator, train.freeze_discriminator, shape, condition.width(self._classes))
        self._placement = Placement(train.precision)
        for network in self.networks.values():
            self._placement.place(network)
        self._images, self._tensor = self._placement.images, self._placement.tensor
        self._augment = Augment(augment, manifest.size, manifest.modality)

    def trained(self, phase: str) -> nn.Module:
        """Return the network of this phase: the one of the same name."""
        return self.networks[phase]

    def losses(self, phase: str, share: Share, values: Values) -> Mapping[str, Tensor]:
        """Return the phase's loss and its parts, summed over the share and divided by the global batch."""
        real, labels = self._images(share.samples.image), self._condition(share.samples.label)
        noise = self._tensor(seeds.normal(share.positions, self._latent, *self._keys, "noise", phase))
        augment = self._augmentation(phase, share, values.augment)
        with torch.autocast(self._placement.device.type, torch.bfloat16, enabled=self._placement.autocast):
            if phase == "discriminator":
                return self._discriminator(real, labels, noise, augment, share, values)
            return self._generator(real, labels, noise, augment, share)

    def after_step(self, values: Values) -> None:
        """Move the averaged generator."""
        ema.update(self.networks[PUBLISHED], self.networks["generator"], values.ema_beta)

    @torch.no_grad()
    def sample(self, positions: NDArray[np.int64], labels: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return images of the averaged generator [n, C, H, W] in [-1, 1], float32, for fixed noise."""
        parts = []
        for start in range(0, len(positions), SAMPLE_BATCH):
            rows = slice(start, start + SAMPLE_BATCH)
            noise = self._tensor(seeds.normal(positions[rows], self._latent, "preview"))
            images = self.networks[PUBLISHED](noise, self._condition(labels[rows]))
            parts.append(images.float().clamp(-1, 1).cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def probe(self, samples: Samples, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the discriminator's logits [n] of images that are not augmented. See ``protocol.Probed``."""
        parts = [np.empty(0, np.float32)]
        for start in range(0, len(samples), SAMPLE_BATCH):
            rows = slice(start, start + SAMPLE_BATCH)
            labels = self._condition(samples.label[rows])
            if positions is None:
                images = self._images(samples.image[rows])
            else:
                noise = self._tensor(seeds.normal(positions[rows], self._latent, "probe"))
                images = self.networks["generator"](noise, labels)
            parts.append(self.networks["discriminator"](images, labels).float().cpu().numpy())
        return np.concatenate(parts)

    def _discriminator(
        self, real: Tensor, labels: Tensor, noise: Tensor, augment: "_Alternating", share: Share, values: Values
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.networks["generator"](noise, labels).to(self._placement.dtype)
        every = self._train.penalty_every
        penalty = share.step % every == 0 and values.gamma > 0
        network = self.networks["discriminator"]
        terms = self._objective.discriminator(network, real, fake, labels, augment, penalty)
        adversarial = terms.adversarial.sum() / share.global_batch
        gradient_penalty = terms.penalty.sum() / share.global_batch
        return {
            "loss": adversarial + every * values.gamma / 2 * gradient_penalty,
            "adversarial": adversarial,
            "penalty": gradient_penalty,
            "lead": (terms.real_logits - terms.fake_logits).sum() / share.global_batch,
        }

    def _generator(
        self, real: Tensor, labels: Tensor, noise: Tensor, augment: "_Alternating", share: Share
    ) -> dict[str, Tensor]:
        fake = self.networks["generator"](noise, labels).to(self._placement.dtype)
        terms = self._objective.generator(self.networks["discriminator"], real, fake, labels, augment)
        return {"loss": terms.adversarial.sum() / share.global_batch}

    def _augmentation(self, phase: str, share: Share, probability: float) -> "_Alternating":
        return _Alternating(self._augment, self._augmentation_draws(phase, share), probability)

    def _augmentation_draws(self, phase: str, share: Share) -> Iterator[tuple[Tensor, Tensor | None]]:
        for kind in ("real", "fake"):
            keys = (*self._keys, "augment", phase, kind)
            noise = self._augment.draw_noise(share.positions, share.samples.image.shape[1], *keys)
            draws = self._augment.draw(share.positions, *keys)
            yield self._tensor(draws), None if noise is None else self._tensor(noise)

    def _condition(self, labels: NDArray[np.int32]) -> Tensor:
        codes = torch.from_numpy(np.ascontiguousarray(labels))
        return condition.encode(codes, self._classes).to(self._placement.device, self._placement.dtype)


def _freeze(discriminator: nn.Module, layers: int, shape: Shape, condition_width: int) -> frozenset[str]:
    """Exempt the earliest layers from training; return the names of their parameters."""
    if not layers:
        return frozenset()
    inputs = torch.zeros(1, *shape), torch.zeros(1, condition_width)
    names = frozenset(freeze.earliest(discriminator, layers, *inputs))
    for name in names:
        discriminator.get_parameter(name).requires_grad_(False)
    return names


class _Alternating:
    """The augmentation of a phase: the first call takes the draws of the reals, the second those of the fakes."""

    def __init__(self, augment: Augment, draws: Iterator[tuple[Tensor, Tensor | None]], probability: float) -> None:
        self._augment, self._draws, self._probability = augment, draws, probability

    def __call__(self, images: Tensor) -> Tensor:
        draws, noise = next(self._draws)
        return self._augment.apply(images, draws, self._probability, noise)
