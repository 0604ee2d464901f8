"""The task ``translate``: image to image, faithful (intensities alone) or realistic (also judged by a discriminator).

A discriminator sees what is given beside what comes out, and the two images of a pair share what is given
(relativistic, R1 and R2 with respect to what comes out). It starts when half of the images are seen, on a translator
that is faithful by then. What is given is a pair's first image, or made of the image itself: then the draws depend on
(content digest, seed, position) alone.
"""

import copy
import zlib
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan_ray.dataset.manifest import Intensity, Manifest
from medgan_ray.dataset.shards import Samples, own_subjects
from medgan_ray.errors import InputError
from medgan_ray.metrics import images as compared
from medgan_ray.metrics.figure import interval
from medgan_ray.models import catalog, ema
from medgan_ray.models.augment import Augment, AugmentSettings
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.losses import OBJECTIVES
from medgan_ray.models.translator import Translator, factor
from medgan_ray.tasks.degrade import Degraded, degraded, dose_sd
from medgan_ray.tasks.placement import Placement
from medgan_ray.tasks.protocol import PUBLISHED, Share, TrainSettings, Values

NETWORK, DISCRIMINATOR = "translator", "discriminator"
FAITHFUL_SHARE = 0.5
"""Of a realistic run, the images after which the discriminator joins in."""
FIDELITY_WEIGHT = 10.0
"""Of the mean absolute difference beside the adversarial loss."""
BATCH = 16
FEWEST = 8
COLUMNS = ("mae", "mse", "ssim", "fine", "fine_true", "plain_mae", "plain_mse", "plain_ssim")
"""What is measured of each scan: of the translation and of the plain method, against the truth."""


class TranslateTask:
    """A translator, its losses and its answers. See ``protocol.Task`` and ``protocol.Answers``."""

    frozen: frozenset[str] = frozenset()
    first_decay = 0.5
    steadier = "lower train.lr"

    def __init__(
        self, manifest: Manifest, model: ModelSettings, train: TrainSettings, augment: AugmentSettings, seed: int
    ) -> None:
        """Build the networks."""
        self._keys = (manifest.content_digest, seed)
        self._train, self._intensity = train, manifest.intensity
        shape = Shape(manifest.channels, *manifest.size)
        translator = catalog.build_translator(model, train.given, shape, seed)
        self.networks: dict[str, nn.Module] = {
            NETWORK: translator,
            PUBLISHED: copy.deepcopy(translator).requires_grad_(False),
        }
        self.phases: tuple[str, ...] = (NETWORK,)
        if train.head == "realistic":
            beside = Shape(2 * shape.channels + 1, shape.height, shape.width)
            self.networks[DISCRIMINATOR] = catalog.build_critic(model, beside, seed)
            self.phases = (DISCRIMINATOR, NETWORK)
        self._placement = Placement(train.precision)
        for network in self.networks.values():
            self._placement.place(network)
        self._augment = Augment(augment, manifest.size, manifest.modality)
        self._noise_sd = noise_sd(train, manifest.intensity)

    def trained(self, phase: str) -> nn.Module:
        """Return the network of this phase: the one of the same name."""
        return self.networks[phase]

    def losses(self, phase: str, share: Share, values: Values) -> Mapping[str, Tensor]:
        """Return the phase's loss and its parts, summed over the share and divided by the global batch."""
        adversarial = self._train.head == "realistic" and values.progress >= FAITHFUL_SHARE
        if phase == DISCRIMINATOR and not adversarial:
            nothing = torch.stack([each.sum() for each in self.networks[phase].parameters()]).sum()
            return {"loss": 0.0 * nothing}
        wanted, given = self._drawn(share, values.augment)
        with torch.autocast(self._placement.device.type, torch.bfloat16, enabled=self._placement.autocast):
            if phase == DISCRIMINATOR:
                return self._judging(wanted, given, share, values)
            made = self.networks[NETWORK](*given).to(self._placement.dtype)
            apart = (made - wanted).abs().mean((1, 2, 3)).sum() / share.global_batch
            if not adversarial:
                return {"loss": apart, "apart": apart}
            terms = OBJECTIVES["relativistic"].generator(
                self._critic(given), wanted, made, self._no_condition(wanted), _as_is
            )
            fooled = terms.adversarial.sum() / share.global_batch
            return {"loss": FIDELITY_WEIGHT * apart + fooled, "apart": apart, "adversarial": fooled}

    def after_step(self, values: Values) -> None:
        """Move the averaged translator."""
        ema.update(self.networks[PUBLISHED], self.networks[NETWORK], values.ema_beta)

    @torch.no_grad()
    def answers(self, samples: Samples) -> NDArray[np.float32]:
        """Return what is measured of each scan, float32 [n, 8]: see ``COLUMNS``; differences in the modality's unit.

        What is made of a scan is drawn by its pixels, so that whoever measures it measures the same.
        """
        parts = [np.empty((0, len(COLUMNS)), np.float32)]
        network = cast(Translator, self.networks[PUBLISHED])
        for start in range(0, len(samples), BATCH):
            part = samples.rows(slice(start, start + BATCH))
            wanted, given = self._degraded(self._images(part), _marks(part.image), "measure")
            made, plain = (each.clamp(-1, 1) for each in (network(*given), network.plain(given.images)))
            parts.append(self._measured(wanted, made, plain))
        return np.concatenate(parts)

    def not_applicable(self, known: Samples) -> str:
        """Say how many scans there are, if they are too few."""
        return "" if len(known) >= FEWEST else f"holds {len(known)} scans, figures need {FEWEST}"

    def figures(self, answers: NDArray[np.float32], known: Samples) -> dict[str, float]:
        """Return the figures: ``score`` is the mean absolute difference over that of the plain method, below 1 better.

        ``psnr`` in dB over the default window, ``mae`` in the modality's unit, ``fine`` the power of high frequencies
        over that of the truth; ``plain_…`` the same of the plain method.
        """
        found = dict(zip(COLUMNS, answers.astype(np.float64).T, strict=True))
        peak = self._intensity.window[1] - self._intensity.window[0]
        told = {name: float(found[name].mean()) for name in ("mae", "ssim", "plain_mae", "plain_ssim")}
        for name in ("", "plain_"):
            told[f"{name}psnr"] = float(np.mean(10 * np.log10(peak**2 / np.maximum(found[f"{name}mse"], 1e-12))))
        told["fine"] = float(found["fine"].sum() / max(found["fine_true"].sum(), 1e-30))
        ratio = found["mae"] / np.maximum(found["plain_mae"], 1e-12)
        told["mae_low"], told["mae_high"] = interval(
            lambda rows: float(found["mae"][rows].mean()), own_subjects(known.subject)
        )
        return {"score": float(np.mean(ratio)), **told}

    def _drawn(self, share: Share, augment: float) -> tuple[Tensor, Degraded]:
        """Return what is wanted and what is given, both under the same augmentation."""
        images = self._placement.augmented(
            self._augment, self._images(share.samples), share.positions, augment, *self._keys, "augment"
        )
        return self._degraded(images, share.positions, "train")

    def _images(self, samples: Samples) -> Tensor:
        """Return images [n, C, H, W]; of pairs, what is wanted and what is given, [n, 2 C, H, W]."""
        if self._train.given != "pair":
            return self._placement.images(samples.image)
        return self._placement.images(np.concatenate([_pair(samples), samples.image], 1))

    def _degraded(self, images: Tensor, positions: NDArray[np.int64], purpose: str) -> tuple[Tensor, Degraded]:
        """Return what is wanted and what is given, of what ``_images`` returned."""
        if self._train.given == "pair":
            wanted, beside = images.chunk(2, 1)
            return wanted, Degraded(beside, torch.ones_like(beside[:, :1]))
        return images, degraded(images, self._train.given, self._noise_sd, positions, *self._keys, purpose)

    def _judging(self, wanted: Tensor, given: Degraded, share: Share, values: Values) -> dict[str, Tensor]:
        """Return the discriminator's loss."""
        with torch.no_grad():
            made = self.networks[NETWORK](*given).to(self._placement.dtype)
        every = self._train.penalty_every
        penalty = share.step % every == 0 and values.gamma > 0
        terms = OBJECTIVES["relativistic"].discriminator(
            self._critic(given), wanted, made, self._no_condition(wanted), _as_is, penalty
        )
        told = terms.adversarial.sum() / share.global_batch
        squares = terms.penalty.sum() / share.global_batch
        return {"loss": told + every * values.gamma / 2 * squares, "adversarial": told, "penalty": squares}

    def _critic(self, given: Degraded) -> nn.Module:
        return _Beside(self.networks[DISCRIMINATOR], given, factor(self._train.given))

    def _no_condition(self, images: Tensor) -> Tensor:
        return images.new_zeros((len(images), 0))

    def _measured(self, wanted: Tensor, made: Tensor, plain: Tensor) -> NDArray[np.float32]:
        """Return the columns of a batch."""
        truth, ours, others = (self._values(each) for each in (wanted, made, plain))
        fine = [_fine(ours), _fine(truth)]
        columns = [*self._against(ours, truth), *fine, *self._against(others, truth)]
        return np.stack(columns, 1).astype(np.float32)

    def _values(self, images: Tensor) -> NDArray[np.float64]:
        """Return images in [-1, 1] in the modality's unit."""
        low, high = self._intensity.low, self._intensity.high
        values: NDArray[np.float64] = (images.double().cpu().numpy() + 1) * ((high - low) / 2) + low
        return values

    def _against(self, values: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return mean absolute and squared differences, and the similarity in the default window, [n] each."""
        apart = values - truth
        alike = compared.ssim(_shown(values, self._intensity), _shown(truth, self._intensity))
        return np.abs(apart).mean((1, 2, 3)), (apart**2).mean((1, 2, 3)), alike


class _Beside(nn.Module):
    """A discriminator that sees what is given beside each of several batches of images."""

    def __init__(self, network: nn.Module, given: Degraded, times: int) -> None:
        super().__init__()
        images = torch.nn.functional.interpolate(given.images, scale_factor=times) if times > 1 else given.images
        self._network, self._given = network, torch.cat([images, given.trusted], 1)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        beside = self._given.repeat(len(images) // len(self._given), 1, 1, 1)
        logits: Tensor = self._network(torch.cat([beside, images], 1), condition)
        return logits


def noise_sd(train: TrainSettings, intensity: Intensity) -> float:
    """Return the deviation of the noise that is added, on images in [-1, 1].

    Of ``noise`` it is ``train.noise_sd``; of ``dose`` what ``train.dose`` adds to scans whose own noise is that.
    """
    of_unit = 2 / (intensity.high - intensity.low)
    return of_unit * (dose_sd(train.dose, train.noise_sd) if train.given == "dose" else train.noise_sd)


def _as_is(images: Tensor) -> Tensor:
    return images


def _pair(samples: Samples) -> NDArray[np.uint16]:
    if samples.pair is None:
        raise InputError("the dataset holds no pairs", "train.given=pair", "ingest pairs, or give another train.given")
    return samples.pair


def _marks(images: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return a number for each image by its pixels."""
    return np.array([zlib.crc32(image.tobytes()) for image in images], np.int64)


def _shown(values: NDArray[np.float64], intensity: Intensity) -> NDArray[np.float32]:
    """Return values [n, C, H, W] as the default window shows them, in [-1, 1]."""
    low, high = intensity.window
    shown: NDArray[np.float32] = ((values - low) * (2 / (high - low)) - 1).clip(-1, 1).astype(np.float32)
    return shown


def _fine(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of each image beyond half Nyquist, [n]."""
    height, width = values.shape[2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    power = np.abs(np.fft.rfft2(values)) ** 2
    fine: NDArray[np.float64] = power[..., frequency > 0.25].mean((1, 2)) / (height * width)
    return fine
