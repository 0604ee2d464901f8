"""Why a scan is not taken: every reason code with what it means."""

from enum import StrEnum

from medgan_ray.dicom.refusals import REFUSALS

_OF_IMAGES = {
    "burned_in_text": "text stands in its pixels; blank it with ingest.text=mask",
    "constant": "every pixel has the same value",
    "duplicate": "the same image as one that was taken",
    "duplicate_slice": "a second slice at a place where its series has one",
    "label_conflict": "the same image stands under two labels",
    "mixed_modality": "another modality than most of the scans; a dataset holds one",
    "mixed_orientation": "another orientation than most of its series",
    "near_duplicate": "almost the same image as ones that stand in two splits already",
    "nearly_empty": "hardly any contrast over the intensity map (ingest.min_contrast)",
    "no_spacing": "millimeters between its pixels are unknown, and ingest.spacing_mm asks for them",
    "not_wanted_slice": "not among the slices asked for (ingest.slices)",
    "odd_aspect": "much longer or wider than the dataset's images (ingest.max_aspect)",
    "tilted": "its series leans: slices are sheared against each other (gantry tilt)",
    "too_small": "less than half as many pixels a side as the dataset's images",
    "uneven_slices": "its series has gaps or uneven steps between slices",
    "withdrawn": "of a patient who was withdrawn from this dataset",
}

MEANINGS: dict[str, str] = dict(sorted({**REFUSALS, **_OF_IMAGES}.items()))
"""Each reason code with its meaning."""

Reason = StrEnum("Reason", [(code.upper(), code) for code in MEANINGS])  # type: ignore[misc]  # one list of codes

SWITCHABLE = frozenset(
    {
        "duplicate",
        "duplicate_slice",
        "localizer",
        "mixed_orientation",
        "nearly_empty",
        "odd_aspect",
        "tilted",
        "too_small",
        "uneven_slices",
    }
)
"""The codes that ``ingest.keep`` switches off. Others have an option of their own, which their meaning names; the rest
leave nothing to take."""
