"""The verb ``phantom``: writes DICOM phantoms and their labels.csv, input for trying things out.

medgan-ray phantom OUT --kind ct --patients 40
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medgan_ray.dicom import phantom
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import is_remote


@dataclass(frozen=True)
class PhantomResult:
    """What was written: the folder, the number of files and patients, and the files of each label."""

    folder: str
    files: int
    patients: int
    labels: dict[str, int]


def make_phantoms(
    out: str, *, kind: str = "ct", patients: int = 40, slices: int = 8, size: int = 128, seed: int = 0
) -> PhantomResult:
    """Write ``patients * slices`` DICOM phantoms and ``labels.csv`` (columns file, label, patient) into a local folder.

    Args:
        out: a local folder; it is made, and must not hold other files.
        kind: ``ct`` (head), ``ct_body``, ``mr`` (head) or ``xray`` (chest).
        patients: how many; every other one has a lesion.
        slices: images a patient.
        size: pixels a side.
        seed: the same seed writes the same bytes.

    Raises:
        UsageError: for a remote folder, an unknown kind or numbers out of range.
        InputError: if the folder holds something already, or cannot be written.
    """
    if is_remote(out):
        raise UsageError("phantoms are written to a local folder", out, "give a path, then ingest from there")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError("the folder is not empty", out, "give a new one, so that no scans mix")
        labels = _write(folder, phantom.draw(kind, patients, slices, size, seed), seed)
    except OSError as error:
        raise InputError("cannot write phantoms", out, error.strerror or str(error)) from None
    return PhantomResult(out, sum(labels.values()), patients, labels)


def _write(folder: Path, phantoms: Iterable[phantom.Phantom], seed: int) -> dict[str, int]:
    labels: dict[str, int] = {}
    with (folder / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file", "label", "patient"])
        for drawn in phantoms:
            (folder / drawn.name).write_bytes(phantom.encode(drawn, seed))
            table.writerow([drawn.name, drawn.label, drawn.patient_id])
            labels[drawn.label] = labels.get(drawn.label, 0) + 1
    return dict(sorted(labels.items()))
