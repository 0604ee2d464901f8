"""Archives to time: real scans repeated under other identifiers and values, so that no copy is a duplicate."""

import shutil
from pathlib import Path

import pydicom


def repeat(source: Path, folder: Path, count: int) -> int:
    """Write about ``count`` copies of the CT files below ``source``; return how many there are.

    Copy k is of another patient, study and series, and its RescaleIntercept is k HU lower: that leaves the bytes of the
    pixels as they are, compressed or not.
    """
    paths = sorted(source.rglob("*.dcm"))
    copies = max(1, count // len(paths))
    folder.mkdir(parents=True)
    for row, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        patient, intercept = str(dataset.PatientID), float(dataset.RescaleIntercept)
        uids = {name: str(dataset[name].value)[:58] for name in ("StudyInstanceUID", "SeriesInstanceUID")}
        own = str(dataset.SOPInstanceUID)[:58]
        for copy in range(copies):
            for name, uid in uids.items():
                setattr(dataset, name, f"{uid}.{copy}")
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{own}.{copy}"
            dataset.PatientID, dataset.RescaleIntercept = f"{patient}-{copy}", str(intercept - copy)
            dataset.save_as(folder / f"{copy:04d}-{row:04d}.dcm")
    return copies * len(paths)


def copy(source: Path, folder: Path, count: int) -> int:
    """Write about ``count`` byte-exact copies of the files of a folder, which end as duplicates; return how many."""
    paths = sorted(path for path in source.iterdir() if path.suffix not in (".csv", ".md"))
    copies = max(1, count // len(paths))
    folder.mkdir(parents=True)
    for row in range(copies):
        for path in paths:
            shutil.copyfile(path, folder / f"{row:04d}-{path.name}")
    return copies * len(paths)
