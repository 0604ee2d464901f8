"""Why a scan is not taken: every reason code with what it means."""

from enum import StrEnum

from medgan_ray.dicom.refusals import REFUSALS

Reason = StrEnum(  # type: ignore[misc]  # the codes of reading are listed once, in dicom/
    "Reason",
    [
        *((code.upper(), code) for code in REFUSALS),
        ("CONSTANT", "constant"),
        ("DUPLICATE", "duplicate"),
        ("LABEL_CONFLICT", "label_conflict"),
        ("MIXED_MODALITY", "mixed_modality"),
        ("NEARLY_EMPTY", "nearly_empty"),
        ("TOO_SMALL", "too_small"),
    ],
)

MEANINGS: dict[str, str] = {
    **REFUSALS,
    "constant": "every pixel has the same value",
    "duplicate": "the same image as one that was taken",
    "label_conflict": "the same image stands under two labels",
    "mixed_modality": "another modality than most of the scans; a dataset holds one",
    "nearly_empty": "hardly any contrast over the intensity map (ingest.min_contrast)",
    "too_small": "less than half as many pixels a side as the dataset's images",
}
"""Each reason code with its meaning."""
