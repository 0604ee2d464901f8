"""Phantoms: valid, repeatable, with a lesion that shows."""

import io

import numpy as np
import pydicom
import pytest

from medgan_ray.dicom import phantom
from medgan_ray.errors import UsageError


@pytest.mark.parametrize("kind", phantom.KINDS)
def test_same_seed_same_bytes(kind: str) -> None:
    first, second, other = (
        [phantom.encode(drawn, seed) for drawn in phantom.draw(kind, 2, 2, 32, seed)] for seed in (3, 3, 4)
    )
    assert first == second
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("kind", "modality"), [("ct", "CT"), ("ct_body", "CT"), ("mr", "MR"), ("xray", "CR")])
def test_reads_as_its_modality(kind: str, modality: str) -> None:
    drawn = next(phantom.draw(kind, 1, 1, 48, 0))
    dataset = pydicom.dcmread(io.BytesIO(phantom.encode(drawn, 0)))
    assert (dataset.Modality, dataset.pixel_array.shape) == (modality, (48, 48))
    assert dataset.SyntheticData == "YES"


def test_slices_of_a_patient_share_a_series_and_step_through_the_head() -> None:
    slices = [pydicom.dcmread(io.BytesIO(phantom.encode(drawn, 0))) for drawn in phantom.draw("ct", 2, 3, 32, 0)]
    assert [len({item.SeriesInstanceUID for item in slices[:3]}), len({item.SeriesInstanceUID for item in slices})] == [
        1,
        2,
    ]
    steps = np.diff([item.ImagePositionPatient[2] for item in slices[:3]])
    assert steps == pytest.approx(phantom.SLICE_STEP_MM)
    assert len({item.SOPInstanceUID for item in slices}) == 6


def test_lesion_is_brighter_than_brain() -> None:
    """CT hemorrhage stands well above brain tissue, in HU, and only where it is promised."""
    drawn = list(phantom.draw("ct", 6, 1, 64, 0))
    brain = [np.sort(item.values[(item.values > 0) & (item.values < 150)])[-40:].mean() for item in drawn]
    assert {item.label for item in drawn} == {"normal", "lesion"}
    with_lesion = [value for value, item in zip(brain, drawn, strict=True) if item.lesion]
    assert min(with_lesion) > 75


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"slices": 0}, {"size": 8}, {"kind": "cr"}])
def test_refuses_what_it_cannot_draw(wrong: dict[str, int]) -> None:
    settings = {"kind": "ct", "patients": 1, "slices": 1, "size": 32, "seed": 0} | wrong
    with pytest.raises(UsageError):
        next(phantom.draw(**settings))  # type: ignore[arg-type]
