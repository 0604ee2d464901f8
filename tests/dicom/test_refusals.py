"""Refusals: a code, and a detail that fits on a line."""

from medgan_ray.dicom.refusals import REFUSALS, Refused


def test_codes_are_words_with_a_meaning() -> None:
    assert all(code.isidentifier() and meaning and "\n" not in meaning for code, meaning in REFUSALS.items())


def test_detail_is_one_short_line() -> None:
    assert Refused("undecodable", "a\n b" + "c" * 500).detail == ("a b" + "c" * 500)[:200]
