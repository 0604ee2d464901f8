"""PET: the factor from activity to standardized uptake value by body weight (SUVbw, gram per milliliter).

Source: QIBA, "Computing SUV", the vendor-neutral part; DICOM PS3.3 C.8.9.1 (PET series) and C.8.9.2 (PET isotope).
"""

import datetime
import math

from pydicom.dataset import Dataset

from medgan_ray.dicom.facts import numbers, text
from medgan_ray.dicom.refusals import Refused

GRAMS_PER_KILOGRAM = 1000.0
MOST_KG = 1000.0
LEAST_BQ = 1.0
"""Beyond these nobody is weighed, and nothing is seen."""
MOST_HALF_LIVES = 10.0
"""Between injection and scan; beyond that one of the times is wrong."""


def suv_factor(dataset: Dataset) -> float:
    """Return what rescaled values are multiplied with to become SUV by body weight.

    Raises:
        Refused: ``no_suv`` if the header does not say all that it takes.
    """
    units = text(dataset, "Units").upper()
    if units == "GML" and text(dataset, "SUVType").upper() in ("", "BW"):
        return 1.0
    if units != "BQML":
        raise Refused("no_suv", f"units {units or 'unknown'}")
    if not {"ATTN", "DECY"} <= set(text(dataset, "CorrectedImage").upper().split("\\")):
        raise Refused("no_suv", "not corrected for attenuation and decay")
    sequence = dataset.get("RadiopharmaceuticalInformationSequence")
    if not sequence:
        raise Refused("no_suv", "no radiopharmaceutical")
    isotope = sequence[0]
    weight_kg = _positive(dataset, "PatientWeight")
    dose_bq = _positive(isotope, "RadionuclideTotalDose")
    left_bq = dose_bq * _left(dataset, isotope)
    if left_bq < LEAST_BQ or weight_kg > MOST_KG:
        raise Refused("no_suv", f"{weight_kg:g} kg and {left_bq:g} Bq")
    return weight_kg * GRAMS_PER_KILOGRAM / left_bq


def _left(dataset: Dataset, isotope: Dataset) -> float:
    """Return which part of the dose is left at the time to which the values are corrected."""
    correction = text(dataset, "DecayCorrection").upper()
    if correction == "ADMIN":
        return 1.0
    if correction != "START":
        raise Refused("no_suv", f"decay correction {correction or 'unknown'}")
    half_life_s = _positive(isotope, "RadionuclideHalfLife")
    scan = _moment(text(dataset, "SeriesDate") + text(dataset, "SeriesTime"))
    acquired = _moment(text(dataset, "AcquisitionDate") + text(dataset, "AcquisitionTime"))
    if scan is None or (acquired is not None and acquired < scan):
        # A derived series is dated after its acquisition.
        raise Refused("no_suv", "no time of the scan")
    injected = _moment(text(isotope, "RadiopharmaceuticalStartDateTime"))
    if injected is None:
        injected = _moment(f"{scan:%Y%m%d}" + text(isotope, "RadiopharmaceuticalStartTime"))
        if injected is not None and injected > scan:
            injected -= datetime.timedelta(days=1)  # before midnight
    if injected is None:
        raise Refused("no_suv", "no time of the injection")
    half_lives = (scan - injected).total_seconds() / half_life_s
    if not 0 <= half_lives <= MOST_HALF_LIVES:
        raise Refused("no_suv", f"{half_lives:.1f} half-lives between injection and scan")
    return math.exp2(-half_lives)


def _positive(dataset: Dataset, keyword: str) -> float:
    value = numbers([text(dataset, keyword)], 1)
    if value is None or value[0] <= 0:
        raise Refused("no_suv", f"no {keyword}")
    return value[0]


def _moment(value: str) -> datetime.datetime | None:
    """Return a DICOM date and time, YYYYMMDDHHMMSS with or without fraction; offsets from UTC are left out."""
    digits = value.split(".")[0].split("+")[0].split("-")[0].replace(":", "").strip()
    try:
        return datetime.datetime.strptime(digits.ljust(14, "0") if len(digits) >= 10 else digits, "%Y%m%d%H%M%S")
    except ValueError:
        return None
