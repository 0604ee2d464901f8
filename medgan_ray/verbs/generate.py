"""The verb ``generate``: a model in, scans out, as png, npz or DICOM.

medgan-ray generate run scans -n 16 --seed 1 --format dicom
"""

import hashlib
from collections.abc import Callable

from medgan_ray.config import Section
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store

CHUNK = 256


class GenerateResult(Section):
    """Where the scans are: file names below the folder, and the SHA-256 over their bytes in that order."""

    folder: str
    files: tuple[str, ...]
    sha256: str
    model: str


def generate_scans(
    model: str,
    out: str,
    n: int = 16,
    label: str | None = None,
    seed: int = 0,
    form: str = "png",
    progress: Callable[[int, int], None] | None = None,
    truncation: float | None = None,
) -> GenerateResult:
    """Write ``n`` generated scans into ``out``; the same call writes the same pixels.

    Args:
        model: a run, a search or a version.
        out: a folder or ``s3://`` prefix.
        n: how many.
        label: one of the model's classes; None draws them as often as in the training scans.
        seed: names the scans; n = 4 is a prefix of n = 16.
        form: png, npz (one file a chunk of 256) or dicom (one series).
        progress: told (done, n).
        truncation: 0 (the mean) to 1 (as trained): less is surer, and less varied; only models of stylegan2 take one.

    Raises:
        UsageError: for n < 1, an unknown label or format, or a truncation that the model has not.
        InputError: if there is no model.
    """
    from medgan_ray.dicom.provenance import SeriesIds
    from medgan_ray.inference.encode import SUFFIXES, encode
    from medgan_ray.inference.model import load_model

    if form not in SUFFIXES:
        raise UsageError(f"format {form!r}", "", f"known: {', '.join(sorted(SUFFIXES))}")
    if n < 1:
        raise UsageError(f"n={n}", "", "ask for at least one scan")
    opened, store = load_model(model), open_store(out)
    series, digest, files = SeriesIds.fresh(), hashlib.sha256(), []
    for start in range(0, n, CHUNK):
        images = opened.sample(min(CHUNK, n - start), label, seed, start, truncation)
        files_of = encode(
            opened, images, form, seed=seed, label=label, start=start, series=series, truncation=truncation
        )
        for name, data in files_of:
            store.replace(name, data)
            digest.update(data)
            files.append(name)
        if progress:
            progress(min(start + CHUNK, n), n)
    return GenerateResult(folder=store.uri, files=tuple(files), sha256=digest.hexdigest(), model=opened.version)
