"""What can be chosen about an ingest, section ``ingest`` of the configuration."""

from typing import Literal

from pydantic import Field, field_validator

from medgan_ray.config import Section
from medgan_ray.errors import nearest
from medgan_ray.ingest.reasons import SWITCHABLE


class IngestSettings(Section):
    """How scans become a dataset."""

    window: Literal["lung", "brain", "soft", "bone", "full"] = "soft"
    """CT: the range of Hounsfield units that the dataset holds; full is -1024 to 3071."""
    labels: str = "auto"
    """A CSV (file,label,patient), folders (class subfolders), attribute:KEYWORD (of the DICOM header), none, or auto:
    labels.csv, else folders of pictures."""
    color: Literal["refuse", "luma"] = "refuse"
    """Color images are refused, or their brightness is taken."""
    secondary: bool = False
    """Take DICOM secondary captures (screen shots, scanned film, generated images)."""
    keep: tuple[str, ...] = ()
    """Reason codes that are switched off: scans are taken in spite of them, such as [tilted, uneven_slices]."""
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
    """Seconds that decoding one file may take."""
    memory_mb: int = Field(1536, ge=512)
    """Address space of a decoding process, MiB."""

    @field_validator("keep")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in SWITCHABLE:
                raise ValueError(f"{code!r} can't be switched off; {nearest(code, SWITCHABLE)}")
        return tuple(sorted(set(codes)))
