"""How a run is evaluated."""

from typing import Literal

from pydantic import Field

from medgan_ray.config import Section
from medgan_ray.metrics.figure import DRAWS


class EvaluateSettings(Section):
    """What an evaluation measures, and by which rules it is judged."""

    extractor: str = "own"
    """Features: own (a classifier of the real training scans), efficientnet-lite0 (extra), or a FILE.onnx (extra)."""
    samples: int = Field(default=2000, ge=100)
    """Generated scans that are judged, and real scans they are held against, at most."""
    neighbors: int = Field(default=50_000, ge=100)
    """Training scans searched for copies, at most; a report says how many of all that is."""
    utility: Literal["none", "brief", "full"] = "brief"
    """Train recognizers with and without generated scans: brief is two ways with 3 seeds, full all ways with 5."""
    draws: int = Field(default=DRAWS, ge=20)
    """Bootstrap draws of an interval."""
    rules: str = ""
    """YAML file of the gate's rules; empty: those that come with the package."""
