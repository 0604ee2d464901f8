"""A decoding process that says that values lie in memory that does not hold them: ``Step("tests.dicom.liar")``."""

from typing import Any

from medgan_ray.dicom import shared
from medgan_ray.dicom.terms import Then


def begin(told: dict[str, Any]) -> Then:
    shared.put = lambda memory, slot, values: True
    return lambda facts, values: (values, [])
