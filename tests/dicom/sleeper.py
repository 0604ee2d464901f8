"""A decoding process that never ends with a scan; ``Step("tests.dicom.sleeper")``."""

import time
from typing import Any

from medgan_ray.dicom.terms import Then


def begin(told: dict[str, Any]) -> Then:
    return lambda facts, values: time.sleep(600)  # type: ignore[arg-type, return-value]
