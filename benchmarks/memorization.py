"""Claim: the privacy audit sees copies of training scans among generated ones, and leaves alone what is none.

    python benchmarks/memorization.py ../shared/data/mednist/HeadCT

Splits the scans into training, held-out and other ones (the folder knows no patients: each scan counts as one), and
audits, as if they had been generated: the others; the others with 1, 5 and 20 % replaced by disguised copies of
training scans; copies of held-out scans; one scan many times; noise. Prints shares and areas with their 95 % intervals
and controls. Then times one audit of many against many training scans (shifted and noisy variants make up the number).
A generator that memorized is not trained here: it takes longer than a minute.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgan_ray.evaluate.planted import copies
from medgan_ray.evaluate.privacy import Population, audit
from medgan_ray.metrics.figure import Figure
from medgan_ray.metrics.neighbors import chunked

SHOWN = ("canary", "copies", "ratio", "nearer", "membership_distance", "distinct")
Images = NDArray[np.float32]


def main() -> None:
    """Audit, print the table, and what an audit costs."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path)
    words.add_argument("--generated", type=int, default=400, help="scans that are judged in each row of the table")
    words.add_argument("--timed", type=int, nargs=2, default=(2000, 10000), help="generated and training scans")
    words.add_argument("--draws", type=int, default=200)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    files = sorted(given.scans.iterdir())
    scans = np.stack([np.asarray(Image.open(file), np.float32) for file in files])[:, None] / 127.5 - 1
    scans = scans[np.random.default_rng(given.seed).permutation(len(scans))]
    others, train, held_out = np.split(scans, [given.generated, (len(scans) + given.generated) * 5 // 8])
    sides = (
        Population(chunked(train), np.arange(len(train))),
        Population(chunked(held_out), len(train) + np.arange(len(held_out))),
    )
    print(f"{len(train)} training, {len(held_out)} held-out scans; value [95 % interval] floor or control")
    for name, fake in _sets(others, train, held_out, given.seed).items():
        found = audit(fake, *sides, draws=given.draws, seed=given.seed)
        print(f"{name} (n = {len(fake)}){': ' + found.broken if found.broken else ''}", flush=True)
        for figure in SHOWN:
            print(f"    {figure:<20} {_text(found.figures[figure])}", flush=True)
    if all(given.timed):
        _timed(scans, *given.timed)


def _sets(others: Images, train: Images, held_out: Images, seed: int) -> dict[str, Images]:
    def leaking(percent: int) -> Images:
        count = len(others) * percent // 100
        return np.concatenate([others[count:], copies(train[:count], "leak", seed)]) if count else others

    noise = np.random.default_rng(seed).normal(0, 0.5, others.shape).clip(-1, 1).astype(np.float32)
    return {
        **{f"{percent} % copies of training scans": leaking(percent) for percent in (0, 1, 5, 20)},
        "copies of held-out scans": copies(held_out[: len(others)], "held", seed),
        "one scan": np.repeat(others[:1], len(others), 0),
        "noise": noise,
    }


def _text(figure: Figure) -> str:
    if figure.value is None:
        return figure.not_applicable
    floor = "" if figure.floor is None else f"{figure.floor:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}] {floor}"


def _timed(scans: Images, generated: int, trained: int) -> None:
    """Audit variants of scans, as many as asked for; training scans are made chunk by chunk."""
    count = len(scans) // 4

    def train() -> Iterator[Images]:
        starts = range(0, trained, 500)
        return (copies(scans[np.arange(start, min(start + 500, trained)) % (2 * count)], start) for start in starts)

    fake = copies(scans[2 * count + np.arange(generated) % count], "fake")
    held_out = scans[3 * count :]
    sides = (
        Population(train, np.arange(trained) % (2 * count)),
        Population(chunked(held_out), 2 * count + np.arange(len(held_out))),
    )
    before, wall, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), time.process_time()
    found = audit(fake, *sides)
    cost, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{generated} generated against {trained} training scans: {cost:.0f} CPU-s, {time.monotonic() - wall:.0f} s,"
        f" peak {peak / 1024:.0f} MiB ({before / 1024:.0f} MiB before){': ' + found.broken if found.broken else ''}"
    )


if __name__ == "__main__":
    main()
