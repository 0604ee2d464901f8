"""Reasons: one enum that holds the codes of reading too, each with its meaning."""

import re
from pathlib import Path

from medgan_ray.dicom.refusals import REFUSALS
from medgan_ray.ingest.reasons import MEANINGS, SWITCHABLE, Reason


def test_every_code_has_a_meaning_and_nothing_else_does() -> None:
    codes = {str(reason) for reason in Reason}
    assert codes == set(MEANINGS)
    assert set(REFUSALS) < codes


def test_the_documentation_tells_every_code() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "ingest.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", page, re.MULTILINE))
    switched = ". Switched off by ingest.keep"
    assert told == {code: meaning + switched * (code in SWITCHABLE) for code, meaning in MEANINGS.items()}
