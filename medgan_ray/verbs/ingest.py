"""The verb ``ingest``: scans to a dataset.

medgan-ray ingest SOURCE DATASET size=64 ingest.window=brain
"""

from collections.abc import Mapping
from typing import Any

from medgan_ray.ingest import parts
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.pipeline import Decode, IngestResult, Progress, ingest
from medgan_ray.verbs.config import Config

DEFAULT_SIZE = (64, 64)


def ingest_scans(
    source: str | list[str],
    dataset: str,
    config: Mapping[str, Any] | Config | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    decode: Decode = parts.decode,
    key: SubjectKey | None = None,
) -> IngestResult:
    """Turn scans (DICOM, NIfTI, NPZ, PNG, JPEG, TIFF) into a dataset of 16-bit images, split by patient.

    Args:
        source: a folder, file, zip, tar or s3:// prefix, a DICOMweb service (``dicom.web``), or several.
        dataset: where the dataset stands: a path or s3:// prefix.
        config: options (``size``, ``ingest``, ``split``), nested or with dotted keys.
        progress: called with the number of files done and of all.
        dry_run: only count; nothing is written.
        decode: what decodes the files, part by part; by default, processes on this machine.
        key: hashes patients; by default that of this machine's user.

    Raises:
        UsageError: for an unknown key, a value out of range, or a dataset that was made with another recipe.
        InputError: if a source is missing or empty, a labels file is unusable, or nothing could be taken.
        StoreError: if a store fails.
    """
    settings = Config.of(config)
    names = [source] if isinstance(source, str) else list(source)
    recipe = Recipe(settings.size or DEFAULT_SIZE, settings.ingest)
    return ingest(names, dataset, recipe, settings.split, progress, dry_run, decode, key)
