"""Quality figures while training: averaged generator against held-out scans, each beside its real-to-real floor.

Definitions are in ``metrics/``. ``diversity`` is that of generated over that of real scans; ``memorization`` is how
many more generated scans than scans of another split lie nearer to a training scan than to a held-out one. ``score`` is
the mean of the two sliced Wasserstein ratios, infinite where the power of high frequencies or the lattice index leaves
its bounds; lower is better. Below ``FEWEST`` scans nothing is claimed.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.artifacts.runs import read_json, write_json
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.engine.ranks import Ranks
from medgan_ray.metrics.nearness import diversity, nearer_share
from medgan_ray.metrics.sliced import floor_draw, patch_sliced_wasserstein, sliced_wasserstein
from medgan_ray.metrics.spectrum import high_frequency_power, lattice_index
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import Generates, TrainSettings

FEWEST = 100
FEWEST_CONTROLS = 30
POWER_BOUNDS = (0.75, 1.25)
LATTICE_BOUNDS = (0.85, 1.2)
_DISTANCES = {"whole": sliced_wasserstein, "patches": patch_sliced_wasserstein}

Images = NDArray[np.float32]


class Watch:
    """Figures of one run on one split; its floors are computed once and kept in ``RUN/floors.json``."""

    def __init__(self, dataset: Dataset, split: str, train: TrainSettings, run: Store, ranks: Ranks) -> None:
        self._dataset, self._train, self._run, self._ranks, self._split_name = dataset, train, run, ranks, split
        self._split = dataset.split(split)
        self.samples = min(train.figure_samples, len(self._split))
        self.not_applicable = _too_few(split, len(self._split)) or _too_few("train", len(dataset.split("train")))

    @functools.cached_property
    def _against(self) -> "_Against":
        """What samples are compared with; read when first needed, so that a resumed run is soon at its steps."""
        dataset, split = self._dataset, self._split_name
        chosen = seeds.permutation(len(self._split), dataset.manifest.content_digest, "watch", split)
        taken = self._split.take(np.sort(chosen[: self.samples]))
        real = to_signed(taken.image)
        return _Against(
            real=real,
            labels=taken.label,
            floors=self._load_floors(real),
            power=high_frequency_power(real),
            lattice=lattice_index(real),
            diversity=diversity(real),
            nearness=_Nearness.of(dataset, split, real),
        )

    def figures(self, task: Generates) -> dict[str, float]:
        """Return the figures of the task's samples; empty where too few scans make them meaningless. All ranks call."""
        if self.not_applicable:
            return {}
        against, mine = self._against, self._ranks.positions(0, self.samples)
        fake = self._ranks.gather_rows(task.sample(mine, against.labels[mine]), self.samples)
        distances = self._shared({name: partial(metric, fake, against.real) for name, metric in _DISTANCES.items()})
        ratios = {f"{name}_ratio": value / against.floors[name] for name, value in distances.items()}
        power = high_frequency_power(fake) / against.power
        lattice = lattice_index(fake) / against.lattice
        figures = {"score": score(ratios, power, lattice), **ratios, "power": power, "lattice": lattice}
        figures["diversity"] = diversity(fake) / against.diversity
        if against.nearness:
            figures["memorization"] = against.nearness.excess(fake)
        return figures

    def _load_floors(self, real: Images) -> dict[str, float]:
        dataset, draws = self._dataset, self._train.floor_draws
        key = f"{self._split_name}-{self.samples}-{draws}"
        kept = read_json(self._run, "floors.json") or {}
        known: dict[str, float] | None = json.loads(self._ranks.share_text(json.dumps(kept.get(key))))
        if known:
            return known
        train = dataset.split("train")
        extra = seeds.permutation(len(train), dataset.manifest.content_digest, "floor")[: 3 * self.samples]
        pool = np.concatenate([real, to_signed(train.take(np.sort(extra)).image)])
        count = min(self.samples, len(pool) // 2)
        drawn = self._shared(
            {
                f"{name} {draw:04}": partial(floor_draw, metric, pool, count, draw)
                for name, metric in _DISTANCES.items()
                for draw in range(draws)
            }
        )
        floors = {
            name: float(np.mean([value for key, value in drawn.items() if key.startswith(name)])) for name in _DISTANCES
        }
        if self._ranks.rank == 0:
            write_json(self._run, "floors.json", {**kept, key: floors})
        return floors

    def _shared(self, work: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Return each named figure, the names dealt out among the ranks."""
        names = sorted(work)
        mine = self._ranks.positions(0, len(names))
        values = np.array([[work[names[i]]()] for i in mine], np.float32).reshape(len(mine), 1)
        return dict(zip(names, map(float, self._ranks.gather_rows(values, len(names))[:, 0]), strict=True))


@dataclasses.dataclass(frozen=True)
class _Against:
    """Held-out scans, and the figures that those of samples are divided by."""

    real: Images
    labels: NDArray[np.int32]
    floors: dict[str, float]
    power: float
    lattice: float
    diversity: float
    nearness: "_Nearness | None"


@dataclasses.dataclass(frozen=True)
class _Nearness:
    """Training and held-out scans of equal number, and how often a scan of a third split is nearer to the former."""

    trained: Images
    held_out: Images
    control: float

    @classmethod
    def of(cls, dataset: Dataset, split: str, real: Images) -> "_Nearness | None":
        """Take scans at random; None where the third split is too small to say anything."""
        other = "test" if split == "val" else "val"
        if len(dataset.split(other)) < FEWEST_CONTROLS:
            return None
        count = min(len(real), len(dataset.split("train")))
        trained, controls = (_drawn(dataset, each, count) for each in ("train", other))
        return cls(trained, real[:count], nearer_share(controls, trained, real[:count]))

    def excess(self, fake: Images) -> float:
        """Return how many more of the generated scans are nearer to a training scan, -1…1; 0 is ideal."""
        return nearer_share(fake, self.trained, self.held_out) - self.control


def _drawn(dataset: Dataset, name: str, count: int) -> Images:
    split = dataset.split(name)
    chosen = seeds.permutation(len(split), dataset.manifest.content_digest, "nearness", name)[:count]
    return to_signed(split.take(np.sort(chosen)).image)


def score(ratios: dict[str, float], power: float, lattice: float) -> float:
    """Return the one figure that decides "best": lower is better, infinite outside the bounds."""
    inside = POWER_BOUNDS[0] <= power <= POWER_BOUNDS[1] and LATTICE_BOUNDS[0] <= lattice <= LATTICE_BOUNDS[1]
    return float(np.mean(list(ratios.values()))) if inside else float("inf")


def to_signed(stored: NDArray[np.uint16]) -> Images:
    """Return stored values 0…65535 as float32 in [-1, 1]."""
    return stored.astype(np.float32) * np.float32(2 / 65535) - 1


def to_stored(images: Images) -> NDArray[np.uint16]:
    """Return images in [-1, 1] as stored values 0…65535: the inverse of ``to_signed``, what lies outside cut off."""
    stored: NDArray[np.uint16] = ((images.clip(-1, 1) + 1) * 32767.5).round().astype(np.uint16)
    return stored


def preview_labels(manifest: Manifest, count: int) -> NDArray[np.int32]:
    """Return ``count`` rows of labels for previews, [count, L]: each label set's classes in turn."""
    columns = [np.arange(count, dtype=np.int32) % len(labels.classes) for labels in manifest.labels]
    return np.stack(columns, 1) if columns else np.zeros((count, 0), np.int32)


def _too_few(split: str, count: int) -> str:
    """Return why figures on a split would mean nothing, or an empty text."""
    return "" if count >= FEWEST else f"the {split} split holds {count} scans, quality figures need {FEWEST}"
