"""Claim: text burned into pixels is found and blanked, and scans without text are left alone.

    python benchmarks/burned_in.py ../shared/data/ct_multi_patient ../shared/data/mr_pairs ../shared/data/chest_xray

Reads the scans of each folder, looks for text in them as they are, then plants names, dates and numbers (cap heights of
8 to 40 pixels; bright, half-bright, dark, on a dark box, outlined) into frames drawn at random, of those without text.
Prints, by folder, in how many frames text was found before any was planted; by style and by folder, how many plants
were found, and after blanking how many left no pixel of theirs: MIDI-B's required actions done right, on pixels.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medgan_ray.dicom.burned import blank, find_lines
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import Source, decode

LEAST_SIDE, FRAMES_A_FILE = 128, 4
READABLE = 0.3
"""Least contrast of a plant to what is around it, as a share of the frame's range."""
ALL = "all"
STYLES = ("bright", "half", "dark", "box", "outline")
NAMES = (
    "SMITH",
    "DOE^JOHN",
    "Mueller, Anna",
    "GARCIA^MARIA",
    "Nguyen",
    "O'BRIEN",
    "KOWALSKI",
    "TANAKA^YUKI",
    "Ali Khan",
)

Frame = NDArray[np.float32]


def main() -> None:
    """Measure and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="+")
    words.add_argument("--plants", type=int, default=1000)
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    pools = {folder.name: _frames(folder) for folder in given.scans}
    print(f"{'scans without plants':>24} {'frames':>7} {'text found':>10} {'ms each':>8}")
    for name, frames in pools.items():
        began = time.process_time()
        found = [bool(find_lines(frame)) for frame in frames]
        milliseconds = (time.process_time() - began) * 1e3 / max(len(frames), 1)
        print(f"{name:>24} {len(frames):>7} {sum(found):>10} {milliseconds:>8.1f}")
        pools[name] = [frame for frame, hit in zip(frames, found, strict=True) if not hit]
    draw = np.random.default_rng(given.seed)
    planted, seen, gone = Counter[str](), Counter[str](), Counter[str]()
    usable = [(name, frames) for name, frames in pools.items() if frames]
    while planted[ALL] < given.plants:
        name, frames = usable[draw.integers(len(usable))]
        style = STYLES[draw.integers(len(STYLES))]
        plant = _plant(frames[draw.integers(len(frames))], style, draw)
        if plant is None:
            continue
        frame, text = plant
        planted.update((ALL, style, name))
        if find_lines(frame):
            seen.update((ALL, style, name))
        blanked = frame.copy()
        blank(blanked, float(frame.min()) - 1)  # a value that no pixel has
        if (blanked[text] < frame.min()).all():
            gone.update((ALL, style, name))
    print(f"\n{'plants':>24} {'planted':>7} {'found':>7} {'blanked':>7}")
    for row in (*STYLES, *(name for name, _ in usable), ALL):
        print(f"{row:>24} {planted[row]:>7} {seen[row]:>7} {gone[row]:>7}")
    print(f"{seen[ALL] / planted[ALL]:.2%} found, {gone[ALL] / planted[ALL]:.2%} blanked")


def _frames(folder: Path) -> list[Frame]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".csv", ".md"))
    options = Options(luma=True, secondary=True, derived=True)
    frames = []
    for outcome in decode([Source(str(path), str(path)) for path in files], 2, options=options):
        if outcome.values is not None and min(outcome.values.shape[1:]) >= LEAST_SIDE:
            frames += [np.asarray(frame, np.float32) for frame in outcome.values[:FRAMES_A_FILE]]
    return frames


def _plant(frame: Frame, style: str, draw: np.random.Generator) -> tuple[Frame, NDArray[np.bool_]] | None:
    """Return a frame with text and which pixels are text, or None where it does not fit or could not be read."""
    letters = _letters(draw)
    height, width = letters.shape
    if height + 8 >= frame.shape[0] or width + 8 >= frame.shape[1]:
        return None
    top, left = (
        int(draw.integers(4, side - extent - 4)) for side, extent in zip(frame.shape, letters.shape, strict=True)
    )
    low, high = np.percentile(frame, (0.5, 99.5))
    place = np.zeros(frame.shape, np.float32)
    place[top : top + height, left : left + width] = letters
    around = frame[top - 2 : top + height + 2, left - 2 : left + width + 2]
    planted = frame.copy()
    value = float(frame.max())
    ground = float(np.percentile(around, 95))
    if style == "half":
        value = float(low + (high - low) * draw.uniform(0.4, 0.8))
    elif style == "dark":
        value, ground = float(frame.min()), float(np.percentile(around, 5))
    elif style == "box":
        planted[top - 3 : top + height + 3, left - 3 : left + width + 3] = ground = float(frame.min())
    elif style == "outline":
        rim = ndimage.maximum_filter(place, 3)
        planted, ground = planted * (1 - rim) + frame.min() * rim, float(np.percentile(around, 95) - 0.3 * (high - low))
    if value == ground or abs(value - ground) < READABLE * (high - low) or (value < ground) != (style == "dark"):
        return None
    return np.asarray(planted * (1 - place) + value * place, np.float32), place >= 0.5


def _letters(draw: np.random.Generator) -> Frame:
    """Return a drawn text, [h, w] from 0 to 1, cut to its ink; in half of the cases without softened edges."""
    kind, day = draw.integers(4), f"{draw.integers(1900, 2026)}-{draw.integers(1, 13):02}-{draw.integers(1, 29):02}"
    name, number = NAMES[draw.integers(len(NAMES))], str(draw.integers(10**3, 10**9))
    text = (name, day, number, f"{name} {day}")[kind]
    cap = np.exp(draw.uniform(np.log(8), np.log(40)))
    font = ImageFont.load_default(cap / 0.7)
    _, _, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right) + 4, int(bottom) + 4), 0)
    pen = ImageDraw.Draw(image)
    pen.fontmode = "L" if draw.random() < 0.5 else "1"
    pen.text((2, 2), text, fill=255, font=font)
    ink = np.asarray(image, np.float32) / 255
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


if __name__ == "__main__":
    main()
