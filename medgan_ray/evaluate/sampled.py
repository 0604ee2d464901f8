"""What the privacy audit looks at: real scans in chunks, and those drawn of them by whole patients."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.dataset.shards import own_subjects
from medgan_ray.errors import InputError
from medgan_ray.evaluate.planted import copies, plantable
from medgan_ray.metrics.neighbors import Chunks

SAMPLE = 1000
"""Scans drawn of each side, at most."""
FEWEST = 50
"""Scans that each side must have."""
FEWEST_PATIENTS = 10
"""Patients that each side must have."""
FEWEST_GENERATED = 100
PLANTS = 64
"""Canaries of each kind, at most."""
FEWEST_PLANTS = 20

Images = NDArray[np.float32]
Groups = NDArray[np.int64]
Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Population:
    """Real scans of one side: those trained on, or those of patients never trained on."""

    images: Chunks
    """Gives chunks float32 [some, C, H, W] in [-1, 1]; called a few times, each time in the same order."""
    subjects: NDArray[np.integer]
    """The patient of each scan [n], the same numbers on both sides; negative: unknown, one of its own."""
    logits: NDArray[np.floating] | None = None
    """The discriminator's score of each scan [n], not a number where it was not asked; None without one."""

    @property
    def groups(self) -> Groups:
        """The patient of each scan [n], unknown ones numbered below -1."""
        return own_subjects(self.subjects)


@dataclasses.dataclass(frozen=True)
class Side:
    """Scans drawn of one side: whole patients in random order, the last one cut."""

    rows: Rows
    """Positions in the split [n]."""
    images: Images
    groups: Groups
    planted: Rows
    """Which of the n are copied as canaries."""
    plants: Images
    """Their disguised copies."""


@dataclasses.dataclass(frozen=True)
class Lineup:
    """All that one audit compares."""

    generated: Images
    members: Side
    others: Side
    cut: int
    """The others from here on are what generated scans are held against beside as many members; those before, of other
    patients, are the control."""
    trained: Groups
    """The patient of each training scan."""
    held_out: Groups
    """The patient of each held-out scan."""

    @property
    def equal(self) -> int:
        """Members, and others from the cut on, that are compared at equal numbers."""
        return min(len(self.members.rows), len(self.others.rows) - self.cut)


def too_few(generated: Images, trained: Population, held_out: Population) -> str:
    """Return why an audit would mean nothing, or an empty text."""
    if len(generated) < FEWEST_GENERATED:
        return f"{len(generated)} generated scans, the audit needs {FEWEST_GENERATED}"
    for name, scans in (("training", trained), ("held-out", held_out)):
        count, patients = len(scans.subjects), len(np.unique(scans.groups))
        if count < FEWEST or patients < FEWEST_PATIENTS:
            return f"{count} {name} scans of {patients} patients, the audit needs {FEWEST} of {FEWEST_PATIENTS}"
    return ""


def draw_lineup(generated: Images, trained: Population, held_out: Population, seed: int) -> Lineup | str:
    """Return what an audit compares, or why that would mean nothing.

    Raises:
        InputError: for another number of scans than of subjects.
    """
    if why := too_few(generated, trained, held_out):
        return why
    members, others = (_side(scans, name, seed) for name, scans in (("members", trained), ("others", held_out)))
    for name, side in (("training", members), ("held-out", others)):
        if len(side.planted) < FEWEST_PLANTS:
            return f"only {len(side.planted)} {name} scans that are neither blank nor there twice"
    cut = _cut(others.groups)
    if min(cut, len(others.rows) - cut) < FEWEST // 5:
        return "one held-out patient has nearly all scans"
    return Lineup(generated, members, others, cut, trained.groups, held_out.groups)


def by_patient(groups: Groups, count: int, *parts: str | int) -> Rows:
    """Return ``count`` rows, or all there are: whole patients in an order drawn by ``parts``, the last one cut."""
    _, patients = np.unique(groups, return_inverse=True)
    rank = seeds.permutation(int(patients.max()) + 1, "patients", *parts)[patients]
    return np.argsort(rank, kind="stable")[:count]


def _side(scans: Population, name: str, seed: int) -> Side:
    groups = scans.groups
    rows = by_patient(groups, SAMPLE, name, seed)
    images = _gathered(scans, rows)
    planted = plantable(images, PLANTS, name, seed)
    return Side(rows, images, groups[rows], planted, copies(images[planted], name, seed))


def _gathered(scans: Population, rows: Rows) -> Images:
    """Return the images at some positions."""
    order = np.argsort(rows)
    wanted, parts, start = rows[order], list[Images](), 0
    for chunk in scans.images():
        first, last = np.searchsorted(wanted, [start, start + len(chunk)])
        parts.append(np.asarray(chunk[wanted[first:last] - start], np.float32))
        start += len(chunk)
    if start != len(scans.subjects):
        raise InputError(f"{start} scans with {len(scans.subjects)} subjects", "", "give one subject a scan")
    gathered = np.empty((len(rows), *parts[0].shape[1:]), np.float32)
    gathered[order] = np.concatenate(parts)
    return gathered


def _cut(groups: Groups) -> int:
    """Return the patients' boundary nearest to the middle; scans of a patient stand together."""
    boundaries: Sequence[int] = (np.flatnonzero(groups[1:] != groups[:-1]) + 1).tolist()
    return min(boundaries, key=lambda place: abs(place - len(groups) / 2), default=0)
