"""What runs in the project's own environment: the limit, pydicom alone, decoding only, and ingest.

python benchmarks/contenders/ours.py limit|pydicom|decode|ingest|search FOLDER OUT SIDE WORKERS
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from timing import Each, report

KEEP = ["duplicate_slice", "mixed_orientation", "nearly_empty", "tilted", "too_small", "uneven_slices"]
"""Peers write whatever they can read; so do we here."""


def limit() -> Callable[[list[str]], int]:
    """Read the bytes of a file and copy them."""

    def take(path: str) -> None:
        bytearray(Path(path).read_bytes())

    return Each(take)


def pydicom() -> Callable[[list[str]], int]:
    """Read a file with pydicom and its plug-ins, and rescale its pixels."""
    import numpy as np
    from pydicom import dcmread

    warnings.simplefilter("ignore")

    def take(path: str) -> None:
        dataset = dcmread(path)
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        dataset.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)

    return Each(take)


def decode(workers: int) -> Callable[[list[str]], int]:
    """Decode in disposable processes; the values come back whole."""
    from medgan_ray.dicom.facts import Options
    from medgan_ray.dicom.sandbox import Source
    from medgan_ray.dicom.sandbox import decode as sandboxed

    def run(paths: list[str]) -> int:
        outcomes = sandboxed([Source(path, path=path) for path in paths], workers, options=Options(True, True, True))
        return sum(outcome.values is not None for outcome in outcomes)

    return run


def ingest(folder: str, out: str, side: int, workers: int, text: str = "keep") -> Callable[[list[str]], int]:
    """Make a dataset: find, decode, rescale, resize, hash, split, write; what peers do, unless text is looked for."""
    from medgan_ray.verbs.ingest import ingest_scans

    def run(_: list[str]) -> int:
        settings = {
            "workers": workers,
            "keep": KEEP,
            "color": "luma",
            "secondary": True,
            "window": "full",
            "text": text,
        }
        return ingest_scans(folder, f"{out}/dataset", {"size": side, "ingest": settings}).samples

    return run


def main() -> None:
    """Run what the command line names."""
    name, folder, out, side, workers = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    runs = {
        "limit": limit,
        "pydicom": pydicom,
        "decode": lambda: decode(workers),
        "ingest": lambda: ingest(folder, out, side, workers),
        "search": lambda: ingest(folder, out, side, workers, "refuse"),
    }
    report(runs[name](), folder)


if __name__ == "__main__":
    main()
