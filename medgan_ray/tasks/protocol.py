"""What the engine asks of a task: networks, phases, losses over a share of the global batch, and what it is judged by.

A step walks through the task's phases. In each, the engine hands the task its rank's share of the global batch,
differentiates the loss with respect to one network, sums the gradients over the ranks and takes an optimizer's step.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from medgan_ray.config import Section
from medgan_ray.dataset.shards import Samples
from medgan_ray.errors import nearest
from medgan_ray.host import writer_names
from medgan_ray.models.translator import Given

PUBLISHED = "average"
"""Of a task's networks the one that is judged and published: the running average of what is trained."""


class TrainSettings(Section):
    """How networks are trained. Schedules are half cosines over images seen, from the first value to the ``_final``."""

    loss: Literal["relativistic", "non_saturating", "hinge"] = "relativistic"
    """What the two networks minimize; the penalty is R1 + R2 under relativistic, R1 under the others."""
    lr: float = Field(default=1e-3, gt=0)
    """Adam's learning rate of both networks at the start."""
    lr_final: float = Field(default=1e-4, gt=0)
    """The learning rate when all images are seen."""
    beta2: float = Field(default=0.9, ge=0, lt=1)
    """Adam's second decay rate at the start; the first is 0."""
    beta2_final: float = Field(default=0.99, ge=0, lt=1)
    """Adam's second decay rate after the burn-in."""
    gamma: float | None = Field(default=None, ge=0)
    """Weight of the penalty at the start, 0 for none; null: by loss and size, relativistic to 64 pixels 10."""
    gamma_final: float | None = Field(default=None, ge=0)
    """Weight of the penalty after the burn-in; null: by loss and size, relativistic to 64 pixels 2."""
    burn_in: float = Field(default=0.5, gt=0, le=1)
    """Share of the images over which gamma, beta2 and the augmentation move to their final values."""
    ema_share: float = Field(default=0.1, ge=0, le=1)
    """Half-life of the averaged generator, as a share of the images seen so far."""
    penalty_every: int = Field(default=4, ge=1)
    """Take the penalties in every n-th step, n times as heavy: 4 is a third faster; R3GAN takes 1, StyleGAN2 16."""
    checkpoint_images: int = Field(default=0, ge=0)
    """Images between checkpoints; 0: a tenth of all images."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept beside the best."""
    keep_every: int = Field(default=0, ge=0)
    """Keep a checkpoint at each multiple of so many images for good; 0: none."""
    micro_batch: int = Field(default=0, ge=0)
    """Pairs that a worker takes at once, gradients added up, where its share needs too much memory; 0: all."""
    most_rollbacks: int = Field(default=3, ge=0)
    """Times that a run goes back to a checkpoint, at half the learning rate, before a guard ends it."""
    log_images: int = Field(default=0, ge=0)
    """Images between lines of the log; 0: a hundredth of all images."""
    figure_samples: int = Field(default=500, ge=2)
    """Generated and real images compared for the quality figures, at most."""
    floor_draws: int = Field(default=20, ge=2)
    """Draws of real images that the real-to-real floors are averaged over."""
    logit_adjustment: float = Field(default=1.0, ge=0, le=2)
    """Recognizers: weight of how common a class is; 1 learns classes as if equally common, 0 as they come."""
    targets: tuple[str, ...] = ()
    """Recognizers: the label sets that are learned, several for findings side by side; empty: all of the dataset."""
    coverage: float = Field(default=0.9, ge=0.5, lt=1)
    """Recognizers: the share of scans whose set of classes is to hold the true one."""
    given: Given = "pair"
    """Translators: what is given of the image to be made; a pair's first, or one coarser, noisier, with a hole."""
    head: Literal["faithful", "realistic"] = "faithful"
    """Translators: right values alone, or also a discriminator's idea of how scans look, never to be measured on."""
    noise_sd: float = Field(default=25.0, gt=0)
    """Translators: deviation of the noise to be taken away (given=noise), or of scans' own (dose), in their unit."""
    dose: float = Field(default=0.25, gt=0, lt=1)
    """Translators: share of the dose that given=dose simulates."""
    precision: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    """Arithmetic of the networks; auto: bfloat16 autocast where the processor has it, else float32."""
    init_from: str = ""
    """Start from the weights of another run, or of a version's folder, wherever names and shapes fit; empty: afresh."""
    synthetic: str = ""
    """Recognizers: generated scans stand in for some training scans: a model makes them, or a generated dataset."""
    synthetic_scans: int = Field(default=0, ge=0)
    """How many a model makes when the run begins, its classes in turn; 0: as many as the training scans."""
    synthetic_share: float | dict[str, float] = 0.5
    """Share of a class's positions where a generated scan of it stands in: one for all, or {CLASS: share}, others 0."""
    freeze_discriminator: int = Field(default=0, ge=0)
    """Earliest layers of a discriminator taken over from a run that stay as they are (FreezeD)."""
    freeze_trunk: bool = False
    """Recognizers: train the head alone, on a trunk that comes trained (train.init_from, or efficientnet-lite0)."""
    writers: tuple[str, ...] = ("tensorboard",)
    """Where figures and previews go beside metrics.jsonl: tensorboard, mlflow, wandb, or what a package brings."""

    @field_validator("synthetic_share", mode="before")
    @classmethod
    def _shares(cls, value: object) -> object:
        for share in value.values() if isinstance(value, dict) else [value]:
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError("give a share of 0 to 1, or one for each class: {glioma: 0.8}")
        return value

    @field_validator("writers")
    @classmethod
    def _known_writers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in writer_names():
                raise ValueError(nearest(name, writer_names()))
        if len(set(names)) < len(names):
            raise ValueError("name each writer once")
        return names


@dataclasses.dataclass(frozen=True)
class Values:
    """The scheduled values of one step."""

    lr: float
    beta2: float
    gamma: float
    ema_beta: float
    augment: float
    progress: float = 0.0
    """Share of all images that have been seen."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A rank's share of the global batch: positions in the endless order, and the samples that stand there."""

    positions: NDArray[np.int64]
    samples: Samples
    global_batch: int
    step: int

    def parts(self, pairs: int) -> "Iterator[Share]":
        """Give the share in parts of at most so many pairs; 0: as a whole."""
        size = pairs or max(1, len(self.positions))
        for start in range(0, len(self.positions), size):
            rows = slice(start, start + size)
            yield dataclasses.replace(self, positions=self.positions[rows], samples=self.samples.rows(rows))


class Task(Protocol):
    """A kind of training, and what every one has.

    What a task can do beyond its steps it says by the protocols below: one of ``Generates`` and ``Answers``, by which
    its model is judged, and ``Probed`` where its discriminator steers the augmentation.

    Attributes:
        phases: the steps' phases, in their order.
        networks: everything that is saved; ``PUBLISHED`` among them.
        frozen: names of parameters that stay as they came.
        first_decay: Adam's first decay rate.
        steadier: what a person can change where losses run away.
    """

    phases: tuple[str, ...]
    networks: dict[str, nn.Module]
    frozen: frozenset[str]
    first_decay: float
    steadier: str

    def trained(self, phase: str) -> nn.Module:
        """Return the network that this phase trains."""

    def losses(self, phase: str, share: Share, values: Values) -> Mapping[str, Tensor]:
        """Return scalars summed over the share and divided by the global batch; ``loss`` is differentiated."""

    def after_step(self, values: Values) -> None:
        """Do what follows the optimizers' steps (the moving average)."""


@runtime_checkable
class Generates(Protocol):
    """A task whose model makes images: they are judged as a set, and shown as previews."""

    def sample(self, positions: NDArray[np.int64], labels: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return images [n, C, H, W] in [-1, 1] for fixed noise at ``positions`` and labels [n, L]."""


@runtime_checkable
class Receives(Protocol):
    """A task whose first weights go elsewhere than into its networks of the same names."""

    def receives(self) -> dict[str, nn.Module]:
        """Return the networks that take them, by the names that they come under."""


@runtime_checkable
class Probed(Protocol):
    """A task whose discriminator's view of training, held-out and generated scans can be measured."""

    def probe(self, samples: Samples, positions: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the discriminator's logits [n], in float32 and without augmentation.

        Of the samples' images; where ``positions`` are given, of generated ones with the fixed noise there and the
        samples' labels.
        """


@runtime_checkable
class Answers(Protocol):
    """A task whose model says something of each scan, which is compared with what is known of it."""

    def answers(self, samples: Samples) -> NDArray[np.float32]:
        """Return the published network's answer to each scan, float32 [n, A], without augmentation."""

    def not_applicable(self, known: Samples) -> str:
        """Return why figures on these scans would mean nothing, as what a split does ("holds …"); empty where not."""

    def figures(self, answers: NDArray[np.float32], known: Samples) -> dict[str, float]:
        """Return the figures of answers [n, A]; ``score`` decides which checkpoint is best, lower is better.

        ``known`` holds the scans' labels and subjects, and no images.
        """
