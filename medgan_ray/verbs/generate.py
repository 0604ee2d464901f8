"""The verb ``generate``: a model in, scans out, as png, npz, DICOM or a dataset.

medgan-ray generate run scans -n 16 --seed 1 --format dicom
medgan-ray generate registry/heads@2 s3://bucket/synthetic -n 1000000 --format dataset workers=8
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from medgan_ray.artifacts import registry
from medgan_ray.config import Section
from medgan_ray.store import open_store

if TYPE_CHECKING:
    from medgan_ray.inference.bulk import Make


class GenerateResult(Section):
    """Where the scans are: file names below the folder, and a SHA-256 over their bytes in that order.

    Of a dataset the files are its shards. The scans are made in parts (1,024 files, or a shard); of several parts, the
    SHA-256 is that over the SHA-256 (hex) of each part's bytes.
    """

    folder: str
    files: tuple[str, ...]
    sha256: str
    model: str
    manifest: str = ""
    """Of a dataset."""


class Wanted(Section):
    """Which scans, and in what form; as ``generate_scans`` explains."""

    n: int = 16
    label: str | None = None
    seed: int = 0
    form: str = "png"
    truncation: float | None = None
    classes: tuple[str, ...] = ()
    """Made in turn, where no label is asked for."""


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
    """Write ``n`` generated scans into ``out``; the same call writes the same pixels, and goes on where it was cut off.

    Args:
        model: a run, a search or a version (``REGISTRY/NAME[@N]``).
        out: a folder or ``s3://`` prefix.
        n: how many.
        label: one of the model's classes; None draws them as often as in the training scans.
        seed: names the scans; n = 4 is a prefix of n = 16.
        form: png, npz (one file a chunk of 256), dicom (one series) or dataset (marked as synthetic, all in train).
        progress: told (done, n).
        truncation: 0 (the mean) to 1 (as trained): less is surer, less varied; only models of stylegan2 take one.

    Raises:
        UsageError: for arguments out of range, or if another generation or dataset is in ``out``.
        InputError: if there is no model.
        StoreError: if a store fails.
    """
    from medgan_ray.inference.bulk import make_parts

    wanted = Wanted(n=n, label=label, seed=seed, form=form, truncation=truncation)
    return generate_by(make_parts, model, out, wanted, progress)


def generate_by(
    make: "Make", model: str, out: str, wanted: Wanted, progress: Callable[[int, int], None] | None = None
) -> GenerateResult:
    """Do what ``generate_scans`` does, its parts made by ``make``; with the same errors."""
    from medgan_ray.inference import bulk
    from medgan_ray.inference.model import load_model

    opened, store = load_model(registry.pinned(model)), open_store(out)
    asked = bulk.plan(opened, **dict(wanted))
    recipe, done = bulk.begin(opened, store, asked)
    count = sum(part.images for part in recipe.parts() if part.start in done)

    def tell(images: int) -> None:
        nonlocal count
        count += images
        if progress:
            progress(count, recipe.n)

    todo = [part for part in recipe.parts() if part.start not in done]
    done |= make(opened, store, recipe, todo, tell)
    manifest = bulk.write_dataset(opened, store, recipe, done) if recipe.form == "dataset" else ""
    files, sha256 = bulk.files_of(recipe, done), bulk.digest_of(done)
    bulk.finish(store)
    return GenerateResult(folder=store.uri, files=files, sha256=sha256, model=opened.version, manifest=manifest)
