"""Reasons: one enum that holds the codes of reading too, each with its meaning."""

from medgan_ray.dicom.refusals import REFUSALS
from medgan_ray.ingest.reasons import MEANINGS, Reason


def test_every_code_has_a_meaning_and_nothing_else_does() -> None:
    codes = {str(reason) for reason in Reason}
    assert codes == set(MEANINGS)
    assert set(REFUSALS) < codes
