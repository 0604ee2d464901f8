"""What can be chosen about an ingest, section ``ingest`` of the configuration."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from medgan_ray.config import Section
from medgan_ray.errors import nearest
from medgan_ray.ingest.reasons import SWITCHABLE

FINER, FINEST = 4, 512
"""Decoded images that are to be cropped to the body: so many times the dataset's size, at most so many pixels."""


class IngestSettings(Section):
    """How scans become a dataset."""

    window: Literal["lung", "brain", "soft", "bone", "full"] = "soft"
    """CT: the range of Hounsfield units that the dataset holds; full is -1024 to 3071."""
    labels: str = "auto"
    """A CSV (file,label,patient), folders (class subfolders), attribute:KEYWORD (of the DICOM header), none, or auto:
    labels.csv, else folders of pictures."""
    groups: str = "auto"
    """What stays in one split: attribute:KEYWORD (of the DICOM header), folders (the first subfolder is a patient; the
    second where the first is the label), or auto: the patient of labels.csv, else of the header."""
    color: Literal["refuse", "luma"] = "refuse"
    """Color images are refused, or their brightness is taken."""
    text: Literal["refuse", "mask", "keep"] = "refuse"
    """Scans with text in their pixels are refused, or the text is blanked, or they are taken unseen."""
    secondary: bool = False
    """Take DICOM secondary captures (screen shots, scanned film, generated images)."""
    derived: bool = False
    """Take projections, renderings, screen images and calculated maps."""
    keep: tuple[str, ...] = ()
    """Reason codes that are switched off: scans are taken in spite of them, such as [tilted, uneven_slices]."""
    crop: Literal["auto", "body", "none"] = "auto"
    """auto: X-ray projections to their exposed field; body: also slices to the body, one part for a series; none."""
    spacing_mm: tuple[PositiveFloat, PositiveFloat] | None = None
    """Resample to so many millimeters between rows and columns (one number for both), centered; null: fit to size."""
    max_aspect: float = Field(2.0, ge=1)
    """How many times longer or wider than the dataset's images, in millimeters, a scan may be."""
    slices: str = Field("all", pattern=r"^(all|every:[1-9]\d{0,5}|central:[1-9]\d{0,5})$")
    """Of each series, sorted by position: all slices, every:N-th, or the central:N."""
    near_duplicates: Literal["group", "off"] = "group"
    """Scans without a patient: keep images that are almost the same in one split, or don't look for them."""
    allow_leakage: bool = False
    """Go on although a patient or a group of near-duplicates stands in two splits."""
    min_contrast: float = Field(0.012, ge=0, lt=1)
    """Least standard deviation of an image, as a share of the intensity map."""
    workers: int = Field(0, ge=0, le=256)
    """Decoding processes; 0: one a core, at most 8."""
    file_limit_s: float = Field(20.0, gt=0)
    """Processor seconds that decoding one file may take; five times as many on the clock."""
    memory_mb: int = Field(1536, ge=512)
    """Address space of a decoding process, MiB."""

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of images as they are decoded: finer than the dataset's where a part is still to be cut."""
        finer = max(1, min(FINER, FINEST // max(size))) if self.crop == "body" else 1
        return size[0] * finer, size[1] * finer

    @field_validator("spacing_mm", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _one_scale(self) -> "IngestSettings":
        if self.crop == "body" and self.spacing_mm:
            raise ValueError("crop=body fits bodies to the image, spacing_mm keeps their size: choose one")
        return self

    @field_validator("groups")
    @classmethod
    def _way(cls, groups: str) -> str:
        if groups not in ("auto", "folders") and not groups.startswith("attribute:"):
            raise ValueError(f"{groups!r}; give auto, folders or attribute:KEYWORD")
        return groups

    @field_validator("keep")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in SWITCHABLE:
                raise ValueError(f"{code!r} can't be switched off; {nearest(code, SWITCHABLE)}")
        return tuple(sorted(set(codes)))
